"""The real gdb against the real machine: what a student does, in gdb's batch mode."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from minivmm.accel import NoBackendError, choose
from minivmm.boot import layout
from minivmm.debug.gdb import GdbServer, MachineTarget, Reason, StopEvent
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine

GDB = shutil.which("gdb")
pytestmark = pytest.mark.skipif(
    GDB is None and "MINIVMM_NO_SKIP" not in os.environ, reason="gdb is not installed: apt install gdb"
)
PATIENCE = 60

# It adds 2 to EAX from 1 on, keeps AL at 0x5000, prints it, and halts after eight rounds.
COMMON = (
    "b801000000"  # 1000: mov eax, 1
    "bb02000000"  # 1005: mov ebx, 2
    "01d8"  # 100a: add eax, ebx
    "{store}"  # 100c: mov [0x5000], al
    "baf8030000"  # 1013: mov edx, 0x3f8
    "ee"  # 1018: out dx, al
    "83c101"  # 1019: add ecx, 1
    "83f908"  # 101c: cmp ecx, 8
    "75e9"  # 101f: jne 100a
    "f4"  # 1021: hlt
    "ebfe"  # 1022: jmp 1022
    "0f0b"  # 1024: ud2
)
CODE = {
    "long": bytes.fromhex(COMMON.format(store="88042500500000")),
    "protected": bytes.fromhex(COMMON.format(store="3e880500500000")),
}


class Run:
    """A guest that waits for gdb, and gdb to be run against it."""

    def __init__(self, backend: Backend, mode: str) -> None:
        self.machine = Machine(1 << 20, backend)
        self.machine.load(0x1000, CODE[mode])
        self.machine.enter(mode, 0x1000)  # type: ignore[arg-type]
        self.target = MachineTarget(self.machine)
        self.notices: list[str] = []
        self.server = GdbServer(self.target, 0, monitor=lambda line: f"you said {line}", notice=self.notices.append)
        self.result: list[StopEvent | None] = []
        self.thread = threading.Thread(target=lambda: self.result.append(self.server.serve()), daemon=True)
        self.thread.start()

    def gdb(self, *commands: str, end: str = "kill") -> str:
        """What gdb prints for `commands`, its complaints included."""
        given = ("set confirm off", "set width 0", f"target remote :{self.server.port}", *commands, end)
        arguments = [argument for command in given for argument in ("-ex", command)]
        done = subprocess.run(
            [str(GDB), "-nx", "-batch", *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        return done.stdout + done.stderr

    def over(self) -> StopEvent | None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.result[0]

    def close(self) -> None:
        self.server.stop()
        self.thread.join(PATIENCE)
        self.server.close()
        self.machine.close()


def _backend(name: str) -> Backend:
    try:
        return choose(name).backend
    except NoBackendError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["kvm", "soft"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return _backend(request.param)


Start = Callable[[str], Run]


@pytest.fixture
def start(backend: Backend) -> Iterator[Start]:
    runs: list[Run] = []

    def begin(mode: str) -> Run:
        runs.append(Run(backend, mode))
        return runs[-1]

    yield begin
    for run in runs:
        run.close()


@pytest.fixture(params=["long", "protected"])
def run(request: pytest.FixtureRequest, start: Start) -> Run:
    return start(request.param)


@pytest.fixture
def stopping(run: Run) -> Run:
    """One whose backend has breakpoints."""
    if not run.target.abilities.hardware:
        pytest.skip("this KVM accepts hardware breakpoints and never comes to one")
    return run


def values(output: str) -> list[int]:
    """What the `print` and `output` commands said, in order."""
    return [int(value, 0) for value in re.findall(r"^\$\d+ = (?:\(.*\) )?(\S+)", output, re.MULTILINE)]


def test_breakpoints_and_the_console(stopping: Run) -> None:
    output = stopping.gdb(
        "break *0x1018", "continue", "p $eax", "continue", "p/x $eax", "delete", "continue", end="echo end\n"
    )
    assert output.count("Breakpoint 1, 0x") == 2
    assert values(output) == [3, 5]
    assert "exited normally" in output
    assert bytes(stopping.machine.console) == bytes(range(3, 19, 2))
    event = stopping.over()
    assert event is not None
    assert (event.reason, event.code) == (Reason.ENDED, 0)


def test_steps(run: Run) -> None:
    output = run.gdb(*["stepi", "p $pc"] * 5, "nexti", "p $pc", "stepi 3", "p $pc")
    places = [int(place, 0) for place in re.findall(r"= \(void \(\*\)\(\)\) (\S+)", output)]
    assert places == [0x1005, 0x100A, 0x100C, 0x1013, 0x1018, 0x1019, 0x100A]
    assert run.over() is None
    assert run.machine.console == b"\x03"  # the step over the `out` did all of it, once


def test_registers_and_memory(stopping: Run) -> None:
    output = stopping.gdb(
        "stepi 2",
        "set $eax = 0x41",
        "set {char}0x5001 = 0x7a",
        "break *0x1018",
        "continue",
        "p $eax",
        "p *(unsigned char *)0x5000",
        "p *(unsigned char *)0x5001",
        "p $cs",
        "p/x $cr0 & 1",
        "p/x *(unsigned char *)0x1018",
        "p $fctrl",
        "p *(int *)0xff000000",
    )
    cs = stopping.machine.vcpu.get_sregs().cs.selector
    assert values(output) == [0x43, 0x43, 0x7A, cs, 1, 0xEE, 0x37F]
    assert "Cannot access memory at address 0xff000000" in output
    assert stopping.over() is None
    assert stopping.machine.console == b""


def test_hardware_breakpoints_and_a_temporary_one(stopping: Run) -> None:
    output = stopping.gdb("thbreak *0x1013", "continue", "hbreak *0x100a", "continue", "p $ecx", "info breakpoints")
    assert "Temporary breakpoint 1, 0x" in output
    assert values(output) == [1]
    assert "hw breakpoint" in output


def test_more_breakpoints_than_debug_registers(stopping: Run) -> None:
    breaks = [f"break *{place:#x}" for place in (0x1005, 0x100A, 0x100C, 0x1013, 0x1018)]
    output = stopping.gdb(*breaks, *["continue", "p $pc"] * 5, "x/1xb 0x1018")
    if stopping.target.abilities.software:
        assert output.count("Breakpoint") == 10
        assert "0x1018:\t0xee" in output
    else:
        assert "Cannot insert breakpoint 5" in output
        assert "all four debug registers are in use" in "".join(stopping.notices)


def test_watchpoints(run: Run) -> None:
    output = run.gdb("watch *(unsigned char *)0x5000", "continue", "p *(unsigned char *)0x5000", "continue", "p $pc")
    if run.target.abilities.watch:
        assert "Old value = 0" in output
        assert "New value = 3" in output
        assert "New value = 5" in output
    else:
        assert "Could not insert hardware watchpoint" in output


def test_interrupting_a_guest_that_spins(run: Run, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    gdb = spawn(
        [
            str(GDB),
            "-nx",
            "-q",
            "-ex",
            f"target remote :{run.server.port}",
            "-ex",
            "set $pc = 0x1022",
            "-ex",
            "continue",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert gdb.stdout is not None
    for line in gdb.stdout:
        if "Continuing" in line:
            break
    gdb.send_signal(2)
    output, _ = gdb.communicate("p $pc\nkill\nquit\n", timeout=PATIENCE)
    assert "SIGINT" in output
    assert "0x1022" in output
    assert run.over() is None


def test_a_death_is_shown_in_gdb(run: Run) -> None:
    output = run.gdb("set $pc = 0x1024", "continue", "p $pc", "continue", end="echo end\n")
    assert "Likely cause" in output
    assert "SIGSEGV" in output
    assert "exited with code 0175" in output  # gdb counts in octal
    event = run.over()
    assert event is not None
    assert event.code == 125


def test_threads_and_the_monitor(run: Run) -> None:
    output = run.gdb("info threads", "monitor where", "maint print registers")
    assert re.search(r"\* 1 +Thread 1 \(vCPU 0, (long 64-bit|protected 32-bit)\)", output)
    assert "you said where" in output
    assert "warning" not in output.replace("warning: No executable has been specified", "")


def test_detaching_and_coming_back(stopping: Run) -> None:
    stopping.gdb("break *0x100a", "continue", "set $pc = 0x1022", end="detach")
    output = stopping.gdb("p $pc", "set $pc = 0x1021", end="detach")
    assert "0x1022" in output
    event = stopping.over()
    assert event is not None
    assert event.reason is Reason.ENDED


def test_a_guest_that_changes_its_mode(start: Start) -> None:
    run = start("protected")
    run.machine.enter("real", 0x1000)
    sregs = run.machine.vcpu.get_sregs()
    sregs.gdt.base, sregs.gdt.limit = layout.GDT, 0x2F  # where "protected" has put it
    run.machine.vcpu.set_sregs(sregs)
    run.machine.load(0x1000, bytes.fromhex("0f20c0 6683c801 0f22c0 ea0f100800") + b"\x90" * 4)
    output = run.gdb("show architecture", "p $cr0 & 1", "stepi 3", "p $cr0 & 1", "stepi", "p $pc")
    assert '"i8086"' in output
    assert "OS ABI" not in output
    assert values(output)[:2] == [0, 1]
    assert "is i386 by now, and gdb takes it for i8086" in output
