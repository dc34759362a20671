"""What is special for lab 01: other right answers than ours are right, and the kernels that its drivers put below."""

from __future__ import annotations

import errno

import pytest

from autograder.drivers import lab01
from autograder.drivers.base import Student
from autograder.drivers.lab01_guest import real_mode, walk
from autograder.drivers.lab01_kernels import Gathering, Interrupting, OfVersion, WithLargerPage, kernel
from autograder.stages.models import expected_console
from minivmm import guests
from minivmm.exits import PortIn, PortOut
from minivmm.kvm import KVM_GET_API_VERSION, KVM_GET_VCPU_MMAP_SIZE, KVM_SET_REGS, KvmError, ioctl, open_kvm, struct
from minivmm.machine import Machine

OTHER_ANSWERS = {
    "sums instead of ors": (
        "return direction << 30 | size << 16 | 0xAE << 8 | number",
        "return direction * 2**30 + size * 65536 + 0xAE00 + number",
    ),
    "fields set one by one": (
        "memory_size=size)",
        "memory_size=0)\n    region.memory_size = size",
    ),
    "registers read before they are written": (
        'ioctl(vcpu, KVM_SET_REGS, struct("kvm_regs", rip=entry, rflags=2))',
        'regs = struct("kvm_regs")\n    ioctl(vcpu, KVM_GET_REGS, regs)\n    regs.rip = entry\n'
        "    ioctl(vcpu, KVM_SET_REGS, regs)",
    ),
    "a list for the pair": ("    return vcpu, run\n", "    return [vcpu, run]\n"),
    "bytes joined one by one": (
        "return bytes(run.page[io.data_offset : io.data_offset + io.size * io.count])",
        "return b''.join(bytes([run.page[io.data_offset + i]]) for i in range(io.count * io.size))",
    ),
    "answers written one by one": (
        "run.page[io.data_offset : io.data_offset + wanted] = answer",
        "for i in range(wanted):\n        run.page[io.data_offset + i] = answer[i]",
    ),
    "EINTR by OSError": ("        except KvmError as error:\n", "        except OSError as error:\n"),
    "the reason named in words": (
        'raise RuntimeError(f"nobody handles exit reason {run.exit_reason}")',
        'raise RuntimeError({4: "KVM_EXIT_DEBUG", 6: "KVM_EXIT_MMIO"}[run.exit_reason])',
    ),
    "more memory than needed": ("ram = add_memory(vm, 0, 0, 0x10000)", "ram = add_memory(vm, 0, 0, 1 << 20)"),
}


@pytest.mark.parametrize("change", OTHER_ANSWERS.values(), ids=list(OTHER_ANSWERS))
def test_another_right_answer_has_full_marks(change, marks_lost):
    assert marks_lost("01", change) == []


def run(name: str, shift: int, **parameters: int) -> tuple[list[PortOut], list[PortIn], str]:
    """The port exits of a guest below which strings come in one exit."""
    outs: list[PortOut] = []
    ins: list[PortIn] = []

    def on_in(exit: PortIn) -> None:
        ins.append(exit)
        exit.buffer[:] = b"\x01" * len(exit.buffer)

    with kernel(lambda backend: Gathering(backend, shift)), Machine() as machine:
        machine.load_guest(guests.load(name), **parameters)
        how = walk(machine.vcpu.run, outs.append, on_in)
    return outs, ins, how


@pytest.mark.parametrize(("name", "size"), [("rep-outsb", 1), ("rep-outsw", 2)])
def test_a_gathering_kernel_makes_one_exit_of_a_string(name: str, size: int) -> None:
    outs, _, how = run(name, shift=48, nonce=99, count=30)
    assert [(exit.size, exit.count) for exit in outs] == [(size, 30)]
    assert outs[0].data == expected_console(name, {"nonce": 99, "count": 30})
    assert how == "halted"


def test_a_gathering_kernel_keeps_the_exit_after_the_string() -> None:
    outs, ins, how = run("port-widths", shift=16, nonce=5)
    assert [exit.size for exit in ins] == [1, 2, 4]
    answers = (0x01, 0x0101, 0x01010101)
    assert b"".join(exit.data for exit in outs) == expected_console("port-widths", {"nonce": 5}, answers=answers)
    assert how == "halted"


def test_kernels_that_differ_in_one_answer() -> None:
    with kernel(lambda backend: OfVersion(backend, 11)):
        assert ioctl(open_kvm(), KVM_GET_API_VERSION) == 11
    with kernel(lambda backend: WithLargerPage(backend, 40960)):
        assert ioctl(open_kvm(), KVM_GET_VCPU_MMAP_SIZE) == 40960
    assert ioctl(open_kvm(), KVM_GET_API_VERSION) == 12


def test_an_interrupting_kernel_lets_the_guest_go_on() -> None:
    with kernel(lambda backend: Interrupting(backend, errno.EFAULT, 2)) as (recorder, below), Machine() as machine:
        machine.load_guest(guests.load("hello"))
        for _ in range(2):
            with pytest.raises(KvmError):
                machine.vcpu.run()
        assert isinstance(machine.vcpu.run(), PortOut)
        assert below.runs == 3
        assert recorder.exits[-1] == "out8 port 0x3f8: 48"


def test_a_guest_that_a_student_starts_wrongly_is_stopped_and_said_to_run() -> None:
    def into_a_loop(vcpu: int, entry: int) -> None:
        real_mode(vcpu, 0x2000)
        ioctl(vcpu, KVM_SET_REGS, struct("kvm_regs", rip=0x2000, rflags=2))

    inputs = {"guest": "hello", "parameters": {}, "entry": 0x2000, "code": b"\xeb\xfe", "es": 0x100}
    seen = lab01.start_at(Student({"start_at": into_a_loop}, "start_at"), inputs)
    assert seen["how"].startswith("still running")
