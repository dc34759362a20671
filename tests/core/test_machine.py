"""The run loop on the real device: how a run ends, interruption, string I/O, and that nothing is left behind."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from subprocess import PIPE, Popen

import pytest

from minivmm import exits, guests
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine
from minivmm.vcpu import InvalidStateError
from minivmm.vm import Vm

pytestmark = pytest.mark.kvm

HLT = b"\xf4"
SPIN = b"\xeb\xfe"


def machine_with(code: bytes, backend: Backend, mode: str = "real", **options: object) -> Machine:
    machine = Machine(backend=backend, **options)  # type: ignore[arg-type]
    machine.load(0x1000, code)
    machine.enter(mode, 0x1000)  # type: ignore[arg-type]
    return machine


@pytest.mark.parametrize("mode", ["real", "protected", "long"])
def test_halt(mode: str, kvm_backend: Backend) -> None:
    with machine_with(HLT, kvm_backend, mode) as machine:
        stop = machine.run(2)
        assert (stop.reason, stop.exit_code) == ("halted", 0)
        assert machine.vcpu.get_regs().rip == 0x1001


def test_debug_exit_gives_qemus_code(kvm_backend: Backend) -> None:
    with machine_with(bytes.fromhex("b010 e6f4 f4"), kvm_backend) as machine:  # mov al, 0x10; out 0xf4, al
        assert (machine.run(2).exit_code, machine.run(2).reason) == (33, "halted")


def test_a_triple_fault_is_explained(kvm_backend: Backend) -> None:
    with machine_with(b"\x0f\x0b", kvm_backend, "protected") as machine:  # ud2, with an empty IDT
        stop = machine.run(2)
        assert (stop.reason, stop.exit_code) == ("died", 125)
        assert stop.explanation is not None
        assert "triple fault" in stop.explanation.text().lower()


def test_a_spinning_guest_times_out_and_can_go_on(kvm_backend: Backend) -> None:
    with machine_with(SPIN, kvm_backend) as machine:
        assert machine.run(0.05).reason == "timeout"
        assert machine.run(0.05).exit_code == 124
        assert not machine.history  # a kick is ours, not an exit of the guest
        machine.load(0x1000, HLT)
        assert machine.run(2).reason == "halted"


def test_stop_from_another_thread(kvm_backend: Backend) -> None:
    with machine_with(SPIN, kvm_backend) as machine:
        threading.Timer(0.05, machine.stop).start()
        assert machine.run(10).reason == "asked"


def test_kicks_lose_and_repeat_nothing(kvm_backend: Backend) -> None:
    # mov cx, 20000; l: out 0x81, al; inc ax; loop l; hlt — while another thread kicks as fast as it can
    with machine_with(bytes.fromhex("b9204e 31c0 e681 40 e2fb f4"), kvm_backend) as machine:
        seen: list[int] = []
        machine.on_exit = lambda exit: seen.append(exit.data[0]) if isinstance(exit, exits.PortOut) else None
        over = threading.Event()

        def kick() -> None:
            while not over.wait(0.0005):
                machine.vcpu.kick()

        thread = threading.Thread(target=kick)
        thread.start()
        try:
            assert machine.run(30).reason == "halted"
        finally:
            over.set()
            thread.join()
        assert seen == [i & 0xFF for i in range(20000)]


def test_exits_that_come_again_are_told_from_new_ones(kvm_backend: Backend) -> None:
    # mov cx, 6000; l: out 0x80, eax; inc eax; loop l; then al = in 0x80 and out 0x80, ax; hlt
    code = bytes.fromhex("b97017 6631c0 66e780 6640 e2f9 e480 e780 f4")
    with machine_with(code, kvm_backend) as machine:
        seen: list[exits.Exit] = []
        machine.on_exit = seen.append
        assert machine.run(30).reason == "halted"
        assert [exit.data for exit in seen[:6000] if isinstance(exit, exits.PortOut)] == [
            i.to_bytes(4, "little") for i in range(6000)
        ]
        assert [str(exit) for exit in seen[6000:]] == ["in8 port 0x80", "out16 port 0x80: 6f 17", "KVM_EXIT_HLT"]


@pytest.mark.parametrize("wait", [0.2, 0.6])
def test_ctrl_c_reaches_a_program_whose_guest_spins(wait: float, spawn: Callable[..., Popen[str]]) -> None:
    program = (
        "from minivmm.machine import Machine\n"
        "m = Machine(); m.load(0x1000, b'\\xeb\\xfe'); m.enter('real', 0x1000); print('running', flush=True)\n"
        "try: m.run()\nexcept KeyboardInterrupt: print('interrupted', m.vcpu.get_regs().rip)\n"
    )
    child = spawn([sys.executable, "-c", program], stdout=PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "running\n"
    time.sleep(wait)
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=20)[0] == "interrupted 4096\n"


@pytest.mark.parametrize(("name", "size"), [("rep-outsb", 1), ("rep-outsw", 2)])
def test_a_string_write_is_whole(name: str, size: int, kvm_backend: Backend) -> None:
    with Machine(backend=kvm_backend) as machine:
        sent = bytearray()
        machine.on_exit = lambda exit: sent.extend(exit.data) if isinstance(exit, exits.PortOut) else None
        machine.load_guest(guests.load(name), nonce=5, count=37, port=0x3F8)
        assert machine.run(2).reason == "halted"
        assert len(sent) == 37 * size
        if size == 1:
            assert bytes(machine.console) == bytes(sent)


def test_a_string_read_takes_its_bytes_in_order(kvm_backend: Backend) -> None:
    typed = bytes(range(1, 40))
    # mov dx, 0x3f8; mov di, 0x2000; mov cx, 39; cld; rep insb; hlt
    with machine_with(bytes.fromhex("baf803 bf0020 b92700 fc f36c f4"), kvm_backend, input=typed) as machine:
        assert machine.run(2).reason == "halted"
        assert machine.memory.read(0x2000, 40) == typed + b"\0"


def test_unclaimed_ports_read_all_ones(kvm_backend: Backend) -> None:
    with machine_with(bytes.fromhex("31c0 ba3412 ed f4"), kvm_backend) as machine:  # in ax, dx
        machine.run(2)
        assert machine.vcpu.get_regs().rax == 0xFFFF
        assert machine.ports.unclaimed == {0x1234: 1}


def test_registers_through_the_shared_page(kvm_backend: Backend) -> None:
    with machine_with(bytes.fromhex("b83412 e680 b87856 e680 f4"), kvm_backend) as machine:
        vcpu = machine.vcpu
        vcpu.sync_registers()
        assert isinstance(vcpu.run(), exits.PortOut)
        assert vcpu.get_regs().rax == 0x1234
        assert vcpu.get_sregs().cs.base == 0
        vcpu.update(rbx=0x77)
        assert isinstance(vcpu.run(), exits.PortOut)
        regs = vcpu.get_regs()
        assert (regs.rax, regs.rbx) == (0x5678, 0x77)
        vcpu.sync_registers(False)
        assert vcpu.get_regs().rbx == 0x77


def test_an_exit_is_complete_only_after_the_way_back(kvm_backend: Backend) -> None:
    with machine_with(bytes.fromhex("e480 f4"), kvm_backend) as machine:  # in al, 0x80
        exit = machine.vcpu.run()
        assert isinstance(exit, exits.PortIn)
        exit.buffer[:] = b"\x5a"
        machine.vcpu.finish_io()
        regs = machine.vcpu.get_regs()
        assert (regs.rip, regs.rax & 0xFF) == (0x1002, 0x5A)


def test_a_broken_state_is_named_before_kvm_sees_it(kvm_backend: Backend) -> None:
    with Vm(kvm_backend) as vm:
        vm.memory.add(0, 4096)
        vcpu = vm.create_vcpu()
        sregs = vcpu.get_sregs()
        sregs.cr0 = 0x8000_0010  # PG without PE
        with pytest.raises(InvalidStateError, match=r"PG.*PE"):
            vcpu.set_sregs(sregs)


def test_msrs_cpuid_and_translation(kvm_backend: Backend) -> None:
    with machine_with(HLT, kvm_backend, "long") as machine:
        machine.vcpu.set_msr(0xC000_0102, 0x1234_5678)
        assert machine.vcpu.get_msr(0xC000_0102) == 0x1234_5678
        assert machine.vcpu.translate(0x12345) == 0x12345
        entries = machine.vm.supported_cpuid()
        assert entries[0]["function"] == 0
        machine.vcpu.set_cpuid(entries)
        assert machine.vm.has_cap(3) == 1
        assert machine.vm.has_cap(999_999) == 0


def test_many_machines_leave_nothing_open(kvm_backend: Backend) -> None:
    def one() -> None:
        machine_with(HLT, kvm_backend).run(2)  # dropped, not closed: as when a cell is run again

    one()
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        one()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert threading.active_count() < 4
