"""A small encoder: the instructions of the differential tests as bytes, for 16, 32 and 64-bit code.

It exists because the generator makes instructions by the thousand, where a call of an assembler for each is too slow.
What it makes is held against a disassembler (test_generator.py). Source: SDM vol. 2, "Instruction Format".
"""

from __future__ import annotations

from dataclasses import dataclass

RSP, RBP = 4, 5  # the stack, and the fixed base of memory operands


@dataclass(frozen=True)
class Reg:
    """A register by its number, 0 … 7, or 15 in 64-bit code."""

    number: int


@dataclass(frozen=True)
class Mem:
    """A memory operand: `address` alone, or RBP + `disp` (-128 … 127). `hole` says that it lies in the MMIO hole."""

    address: int = 0
    disp: int | None = None
    hole: bool = False


@dataclass(frozen=True)
class Encoder:
    """Encodes for `bits` = 16, 32 or 64. Operand sizes are 1, 2, 4 and, in 64-bit code, 8 bytes."""

    bits: int

    @property
    def sizes(self) -> tuple[int, ...]:
        return (1, 2, 4, 8) if self.bits == 64 else (1, 2, 4)

    @property
    def word(self) -> int:
        """The size of PUSH and POP."""
        return self.bits // 8

    def op(
        self, size: int, opcode: int | bytes, reg: int, rm: Reg | Mem, imm: bytes = b"", *, byte_rm: bool = False
    ) -> bytes:
        """An instruction with a ModRM byte: prefixes, `opcode` (lowest bit clear: the byte form), operands, `imm`.

        `byte_rm` says that `rm` is a byte whatever `size` is (MOVZX, SETcc).
        """
        code = opcode if isinstance(opcode, bytes) else bytes([opcode | (size > 1)])
        return self.prefixes(size, reg, rm, byte_rm or size == 1) + code + self.modrm(reg, rm) + imm

    def prefixes(self, size: int, reg: int = 0, rm: Reg | Mem | None = None, is_byte: bool = False) -> bytes:
        """The segment override, the operand-size prefix and REX."""
        out = b"\x26" if isinstance(rm, Mem) and rm.hole and self.bits == 16 else b""
        if (size == 2 and self.bits != 16) or (size == 4 and self.bits == 16):
            out += b"\x66"
        if self.bits != 64:
            return out
        base = rm.number if isinstance(rm, Reg) else 0
        rex = (size == 8) << 3 | (reg >> 3) << 2 | base >> 3
        # Without a REX prefix, byte registers 4 … 7 are AH … BH; with one they are SPL … DIL.
        needed = is_byte and (4 <= reg < 8 or 4 <= base < 8)
        return out + (bytes([0x40 | rex]) if rex or needed else b"")

    def modrm(self, reg: int, rm: Reg | Mem) -> bytes:
        field = (reg & 7) << 3
        if isinstance(rm, Reg):
            return bytes([0xC0 | field | rm.number & 7])
        if rm.disp is not None:  # [bp + disp8], [ebp + disp8], [rbp + disp8]
            return bytes([0x40 | field | (6 if self.bits == 16 else RBP), rm.disp & 0xFF])
        if self.bits == 16:
            return bytes([field | 6]) + (rm.address & 0xFFFF).to_bytes(2, "little")
        if self.bits == 32:
            return bytes([field | 5]) + rm.address.to_bytes(4, "little")
        return bytes([field | 4, 0x25]) + rm.address.to_bytes(4, "little")  # a SIB byte, or it were RIP-relative

    def move(self, register: int, value: int, size: int) -> bytes:
        """MOV register, immediate."""
        rex = b""
        if self.bits == 64 and (size == 8 or register > 7):
            rex = bytes([0x40 | (size == 8) << 3 | register >> 3])
        prefix = b"\x66" if (size == 2 and self.bits != 16) or (size == 4 and self.bits == 16) else b""
        return prefix + rex + bytes([0xB8 | register & 7]) + (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def push(self, register: int) -> bytes:
        return self._stack(0x50, register)

    def pop(self, register: int) -> bytes:
        return self._stack(0x58, register)

    def _stack(self, opcode: int, register: int) -> bytes:
        return (b"\x41" if register > 7 else b"") + bytes([opcode | register & 7])

    def immediate(self, size: int, value: int) -> bytes:
        """An immediate operand: as wide as the operand, but four bytes at most."""
        width = min(size, 4)
        return (value & (1 << 8 * width) - 1).to_bytes(width, "little")
