"""What the gdb stub asks of a machine: stop all vCPUs, let some go, say why they stopped.

All-stop, as gdb calls it: while gdb looks, no vCPU runs; when one hits a breakpoint, all stop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from minivmm.exits import Debug
from minivmm.x86.state import MemoryLike


class Action(Enum):
    """What a vCPU does when it is let go."""

    CONTINUE = "continue"
    STEP = "step"


class Reason(Enum):
    """Why the machine stands still."""

    DEBUG = "a breakpoint, a watchpoint or a single step"
    ASKED = "stop_all"
    DIED = "the guest died: its state can still be looked at, but it can't go on"
    ENDED = "the guest is over: it halted, powered off, or wrote to the debug-exit port"


@dataclass(frozen=True)
class StopEvent:
    """One stop. `exit` is there for DEBUG; `code` (the exit code of the run) and `text` (why) for DIED and ENDED."""

    cpu: int
    reason: Reason
    exit: Debug | None = None
    code: int = 0
    text: str = ""


class Cpu(Protocol):
    """A vCPU while it is stopped: `minivmm.vcpu.Vcpu` is one."""

    def get_regs(self) -> Any: ...
    def set_regs(self, regs: Any) -> None: ...
    def get_sregs(self) -> Any: ...
    def set_sregs(self, sregs: Any) -> None: ...
    def get_fpu(self) -> Any: ...
    def set_fpu(self, fpu: Any) -> None: ...
    def set_guest_debug(self, control: int, registers: Sequence[int] = ()) -> None: ...


@dataclass(frozen=True)
class Abilities:
    """What KVM_SET_GUEST_DEBUG does here; see abilities.py, which finds out."""

    step: bool = True
    hardware: bool = True
    watch: bool = True
    software: bool = True
    block_interrupts: bool = False


class Debuggable(Protocol):
    """A machine for gdb. The stub calls all of it from one thread, but for `wait_stop`, which it calls from another.

    At first the machine is stopped. After each `resume` there is exactly one stop, and `wait_stop` tells of it once. A
    stopped vCPU has its last I/O instruction behind it (`Vcpu.finish_io`), and KVM_RUN is not called.
    """

    @property
    def cpus(self) -> Sequence[Cpu]: ...

    @property
    def memory(self) -> MemoryLike:
        """Guest-physical memory."""
        ...

    @property
    def abilities(self) -> Abilities: ...

    def stop_all(self) -> None:
        """Makes every vCPU stop soon, and doesn't wait for it. Does nothing when they have stopped."""
        ...

    def resume(self, actions: Mapping[int, Action]) -> None:
        """Lets the vCPUs in `actions`, by their numbers, go. KVM_SET_GUEST_DEBUG has been called for each."""
        ...

    def wait_stop(self) -> StopEvent:
        """Waits until all vCPUs have stopped after a `resume`: which was the first, and why."""
        ...
