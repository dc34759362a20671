"""The monitor's commands, on a machine made up for the test and on a real one that runs meanwhile."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivmm.kvm.seam import Backend
from minivmm.machine import Machine
from minivmm.monitor import COMMANDS, Monitor
from minivmm.trace import Tracer
from minivmm.x86.bits import CR4_SMAP
from minivmm.x86.modes import long_mode, real_mode
from minivmm.x86.paging import PageTableBuilder
from minivmm.x86.state import Regs, Sregs

sys.path.append(str(Path(__file__).parent))
from one_vcpu import OneVcpu


class Memory:
    """64 KiB of RAM from 0 up."""

    def __init__(self) -> None:
        self.bytes = bytearray(1 << 16)

    def read(self, gpa: int, size: int) -> bytes:
        if gpa + size > len(self.bytes):
            raise ValueError(f"there is no memory at {gpa:#x}")
        return bytes(self.bytes[gpa : gpa + size])

    def write(self, gpa: int, data: bytes) -> None:
        if gpa + len(data) > len(self.bytes):
            raise ValueError(f"there is no memory at {gpa:#x}")
        self.bytes[gpa : gpa + len(data)] = data


class Fake:
    """A machine of two vCPUs that notes what is asked of it: one in real mode at 0x1234:0, one in long mode."""

    cpus = 2

    def __init__(self) -> None:
        self.memory = Memory()
        self.paused = False
        self.asked: list[str] = []
        real, long = Sregs(), Sregs()
        real_mode(real, segment=0x123)
        tables = PageTableBuilder(self.memory, range(0x8000, 0x10000))
        tables.map(0x40_0000, 0x2000, 0x1000)
        tables.map(0x42_0000, 0x2000, 0x1000, user=True)
        long_mode(long, cr3=tables.root)
        long.cr4 |= CR4_SMAP
        self.states = (Regs(rip=4, rax=0xAAAA), real), (Regs(rip=0x40_0000, rbx=0xBBBB), long)
        self.memory.write(0x1234, b"\xf4")
        self.memory.write(0x2000, b"\x0f\x05Hello, monitor! \xff\x00")

    def state(self, cpu: int) -> tuple[Any, Any]:
        return self.states[cpu]

    def exits(self) -> str:
        return "a table"

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def reset(self) -> None:
        raise ValueError("This machine can't be reset.")

    def power_button(self) -> None:
        self.asked.append("power")

    def quit(self) -> None:
        self.asked.append("quit")


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def monitor(fake: Fake) -> Monitor:
    return Monitor(fake)


def test_registers(monitor: Monitor) -> None:
    assert monitor.execute("registers").startswith("vCPU 0\nmode   real\n")
    text = monitor.execute("regis 1")
    assert text.startswith("vCPU 1\nmode   long 64-bit\nRIP    0x400000\n")
    assert "RBX 000000000000bbbb" in text


def test_where(monitor: Monitor, fake: Fake) -> None:
    lines = ["vCPU 0 at 0x4 (linear 0x1234), `hlt`", "vCPU 1 at 0x400000, `syscall`"]
    assert monitor.execute("where").splitlines() == lines
    fake.paused = True
    assert monitor.execute("where").splitlines() == [*lines, "The machine is paused."]
    fake.states[1][0].rip = 0x50_0000
    assert "vCPU 1 at 0x500000, where nothing can be fetched" in monitor.execute("where")


def test_physical_memory(monitor: Monitor) -> None:
    assert monitor.execute("memory 0x2000 20").splitlines() == [
        "0x00002000  0f 05 48 65 6c 6c 6f 2c 20 6d 6f 6e 69 74 6f 72  ··Hello, monitor",
        "0x00002010  21 20 ff 00                                      ! ··",
    ]
    assert len(monitor.execute("memory 0").splitlines()) == 4
    assert len(monitor.execute("memory 0 100000").splitlines()) == 256


def test_virtual_memory(monitor: Monitor) -> None:
    assert monitor.execute("memory -v1 0x400002 5").split()[:6] == ["0x00400002", "48", "65", "6c", "6c", "6f"]
    assert monitor.execute("memory -v1 0x420002 1").split()[:2] == ["0x00420002", "48"]  # SMAP is for the kernel
    assert monitor.execute("memory -v 0x1234 1").split()[:2] == ["0x00001234", "f4"]


def test_memory_that_ends(monitor: Monitor) -> None:
    *rows, problem = monitor.execute("memory 0xfff8 16").splitlines()
    assert [row.split()[0] for row in rows] == ["0x0000fff8"]
    assert problem == "there is no memory at 0x10000"
    *rows, problem = monitor.execute("memory -v1 0x400ff8 16").splitlines()
    assert len(rows) == 1
    assert problem.startswith("0x401000, which the page tables do not translate")
    assert monitor.execute("memory 0x7fffffffffff") == "there is no memory at 0x7fffffffffff"
    assert "not canonical" in monitor.execute("memory -v1 0x8000000000000000")
    assert "0xffffffffffffffff" in monitor.execute("memory -v1 0xffffffffffffffff 8")


def test_steering(monitor: Monitor, fake: Fake) -> None:
    assert monitor.execute("pause") == "The machine is paused."
    assert fake.paused
    assert monitor.execute("continue") == "The machine runs."
    assert not fake.paused
    assert monitor.execute("power") == "The power button was pressed."
    assert monitor.execute("reset") == "This machine can't be reset."
    assert monitor.execute("exits") == "a table"
    assert monitor.execute("quit") == ""
    assert fake.asked == ["power", "quit"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("", ""),
        ("   ", ""),
        ("frobnicate", "There is no command 'frobnicate': “help” lists the commands."),
        ("registres", "There is no command 'registres': did you mean 'registers'?"),
        ("re", "'re' may be registers or reset: type a letter more."),
        ("p", "'p' may be pause or power: type a letter more."),
        ("registers 2", "There is no vCPU 2: this machine has vCPUs 0 to 1."),
        ("registers one", "'one' is not a number like 4096 or 0x1000."),
        ("registers 0 1", "'1' is too much: “help” shows what a command takes."),
        ("where now", "'now' is too much: “help” shows what a command takes."),
        ("pause 1", "'1' is too much: “help” shows what a command takes."),
        ("memory", "memory needs an address, such as “memory 0x1000 64”."),
        ("memory -v", "memory needs an address, such as “memory 0x1000 64”."),
        ("memory -p 0", "'-p' is no option: -v takes a virtual address of vCPU 0, -v1 one of vCPU 1."),
        ("memory -v9 0", "There is no vCPU 9: this machine has vCPUs 0 to 1."),
        ("memory 0 1 2", "'2' is too much: “help” shows what a command takes."),
        ("memory 0x10000000000000000", "'0x10000000000000000' is not an address: those go from 0 to 2^64 - 1."),
    ],
)
def test_one_sentence_for_what_it_does_not_understand(monitor: Monitor, line: str, answer: str) -> None:
    assert monitor.execute(line) == answer


def test_help_names_every_command(fake: Fake) -> None:
    text = Monitor(fake).execute("help")
    assert all(command.usage in text for command in COMMANDS)
    assert Monitor(fake).execute("?") == text
    shorter = Monitor(fake, without=("pause", "quit"))
    assert "pause" not in shorter.execute("help")
    assert shorter.execute("quit").startswith("There is no command 'quit'")


@given(st.lists(st.sampled_from([command.name for command in COMMANDS]) | st.text(max_size=8), max_size=4))
def test_whatever_is_typed_has_an_answer(words: list[str]) -> None:
    assert isinstance(Monitor(Fake()).execute(" ".join(words)), str)


def test_a_machine_that_runs(backend: Backend) -> None:
    with Machine(1 << 20, backend) as machine, Tracer(ports=machine.ports) as tracer:
        # mov al, 'a'; out 0x80, al; inc rcx; jmp to the out
        machine.load(0x1000, bytes.fromhex("b061 e680 48ffc1 ebf9"))
        machine.enter("long", 0x1000)
        setattr(machine.vcpu, "run", tracer.wrap(machine.vcpu))  # noqa: B010
        controls = OneVcpu(machine, tracer)
        monitor = Monitor(controls)
        ended = []
        guest = threading.Thread(target=lambda: ended.append(controls.run()))
        guest.start()
        assert "mode   long 64-bit" in monitor.execute("registers")
        assert monitor.execute("pause") == "The machine is paused."
        assert monitor.execute("registers") == monitor.execute("registers")
        assert monitor.execute("where").splitlines()[1] == "The machine is paused."
        before = machine.vcpu.get_regs().rcx
        assert monitor.execute("continue") == "The machine runs."
        while machine.vcpu.get_regs().rcx == before:
            pass
        out = next(line for line in monitor.execute("exits").splitlines() if line.startswith("out"))
        assert out.split()[1:3] == ["POST", "code"]
        assert monitor.execute("quit") == ""
        guest.join(10)
        assert ended[0].reason == "asked"
