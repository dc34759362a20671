"""A handler for every vector that tells the host, and the tables that lead to it.

A stub writes to TRAP_PORT, so that an exception or interrupt ends KVM_RUN with its stack frame in place; the host knows
the vector by RIP. If the host lets it go on, the stub drops the error code and returns. It has 8 bytes in all modes.

Source: SDM vol. 3, "Interrupt and Exception Handling": vectors that push an error code; the frame in each mode.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from minivmm.x86.gates import Gate
from rig.layout import CODE, KCODE, STUBS, TRAP_PORT

PUSH_ERROR_CODE = frozenset({8, 10, 11, 12, 13, 14, 17, 21})
STUB_SIZE = 8

OUT = bytes([0xE6, TRAP_PORT])  # out TRAP_PORT, al
IRET = bytes([0xCF])
IRETQ = bytes([0x48, 0xCF])
ADD_ESP_4 = bytes([0x83, 0xC4, 0x04])
ADD_RSP_8 = bytes([0x48, 0x83, 0xC4, 0x08])


def stubs(bits: int) -> bytes:
    """256 handlers for 16-bit real mode, 32-bit or 64-bit mode, to be placed at STUBS."""
    drop, back = {16: (b"", IRET), 32: (ADD_ESP_4, IRET), 64: (ADD_RSP_8, IRETQ)}[bits]
    return b"".join(
        (OUT + (drop if vector in PUSH_ERROR_CODE else b"") + back).ljust(STUB_SIZE, b"\x90") for vector in range(256)
    )


def ivt() -> bytes:
    """The real-mode vector table: offset, then segment (0)."""
    return b"".join(struct.pack("<HH", STUBS + STUB_SIZE * vector, 0) for vector in range(256))


def idt(bits: int) -> bytes:
    """An IDT of interrupt gates to the stubs, for ring 0 only (a test may change a gate: Guest.gate)."""
    gates = (Gate(STUBS + STUB_SIZE * vector, KCODE, wide=bits == 64) for vector in range(256))
    return b"".join(gate.encode() for gate in gates)


def vector_at(rip: int) -> int | None:
    """Whose stub RIP is in, before or after its OUT."""
    vector = (rip - STUBS) // STUB_SIZE
    return vector if 0 <= vector < 256 else None


@dataclass(frozen=True)
class Trap:
    """An exception or interrupt that has just reached its handler: the frame that the processor pushed.

    `sp` and `ss` are those of the interrupted code where the processor pushed them, else None.
    """

    vector: int
    error: int | None
    ip: int
    cs: int
    flags: int
    sp: int | None = None
    ss: int | None = None

    @property
    def offset(self) -> int:
        """Where the interrupted instruction lies within the guest's code."""
        return self.ip - CODE


def frame(bits: int, vector: int, stack: bytes, handler_cpl: int = 0) -> Trap:
    """Reads the frame on top of the handler's stack."""
    word = {16: "H", 32: "I", 64: "Q"}[bits]
    has_code = bits != 16 and vector in PUSH_ERROR_CODE
    values = list(struct.unpack_from(f"<6{word}", stack))
    error = values.pop(0) if has_code else None
    ip, cs, flags, sp, ss = values[:5]
    if bits == 64 or (bits == 32 and cs & 3 != handler_cpl):
        return Trap(vector, error, ip, cs & 0xFFFF, flags, sp, ss & 0xFFFF)
    return Trap(vector, error, ip, cs & 0xFFFF, flags)
