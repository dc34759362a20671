"""Dead guests made by hand: a vCPU that only has registers, and memory that is a dictionary of pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from minivmm import x86
from minivmm.debug import Explanation, explain
from minivmm.exits import Exit, Shutdown
from minivmm.x86.state import Regs, Sregs

PAGE = 4096
CODE = 0x1000
RAM = 0x10_0000
GDT, PML4, PDPT, PD = 0x7F000, 0x80000, 0x81000, 0x82000


class Ram:
    """RAM from 0 up to `size`; beyond it is a hole."""

    def __init__(self, size: int = RAM) -> None:
        self.data = bytearray(size)

    def read(self, gpa: int, size: int) -> bytes:
        if gpa < 0 or gpa + size > len(self.data):
            raise ValueError(f"there is no memory at {gpa:#x}")
        return bytes(self.data[gpa : gpa + size])

    def write(self, gpa: int, data: bytes) -> None:
        self.data[gpa : gpa + len(data)] = data


@dataclass
class Dead:
    """A vCPU that will not run again. `vector` and `error_code` are what KVM_GET_VCPU_EVENTS would tell."""

    regs: Regs
    sregs: Sregs
    ram: Ram = field(default_factory=Ram)
    vector: int = 0
    error_code: int | None = None

    def get_regs(self) -> Regs:
        return self.regs

    def get_sregs(self) -> Sregs:
        return self.sregs

    def get_events(self) -> Any:
        has_code = self.error_code is not None
        exception = SimpleNamespace(
            nr=self.vector, injected=0, pending=0, has_error_code=has_code, error_code=self.error_code or 0
        )
        return SimpleNamespace(exception=exception)

    def explain(self, exit: Exit | None = None, history: tuple[Exit, ...] = ()) -> Explanation:
        exit = exit or Shutdown()
        return explain(self, self.ram, exit, (*history, exit))  # type: ignore[arg-type]


def dead(mode: str, code: str = "", *, rip: int = CODE, size: int = RAM, **registers: int) -> Dead:
    """A guest of `mode` with `code` (hex) at `rip`, laid out as Machine.enter does, that died at once."""
    sregs, ram = Sregs(), Ram(size)
    gdt = x86.flat_gdt()
    ram.write(GDT, bytes(gdt))
    setup: dict[str, Callable[[], object]] = {
        "real": lambda: x86.real_mode(sregs),
        "protected": lambda: x86.protected_mode(sregs, gdt=gdt, gdt_base=GDT),
        "long": lambda: x86.long_mode(sregs, cr3=PML4, gdt=gdt, gdt_base=GDT),
    }
    setup[mode]()
    for table, entry in ((PML4, PDPT), (PDPT, PD), (PD, 0x80)):  # the first 2 MiB, one to one
        ram.write(table, (entry | 7).to_bytes(8, "little"))
    if code:
        ram.write(rip, bytes.fromhex(code))
    return Dead(Regs(rip=rip, **{"rsp": 0x7F000, "rdx": 0, **registers}), sregs, ram)
