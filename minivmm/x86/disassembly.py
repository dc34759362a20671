"""Machine code in the notation of the manuals, by way of Capstone.

Source: SDM vol. 2 for the instructions; capstone-engine.org for the decoder. The same bytes mean different
instructions in 16-, 32- and 64-bit code, so the caller has to say which it is: see `modes.code_bits`.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_INSTRUCTION = 15  # bytes; a longer one raises #GP


@dataclass(frozen=True)
class Instruction:
    """One decoded instruction. Where the bytes are none, `text` is "(bad)" and `code` the one byte that was skipped."""

    address: int
    code: bytes
    text: str

    def __str__(self) -> str:
        return f"{self.address:#x}: {self.code.hex(' ')}  {self.text}"


def instructions(code: bytes, address: int, mode: int, count: int = 8) -> list[Instruction]:
    """Decodes at most `count` instructions of `code`, whose first byte lies at `address`; `mode` is 16, 32 or 64.

    Never raises for bad code: a byte that starts no instruction is shown as "(bad)". Raises ValueError for another
    mode.
    """
    if mode not in (16, 32, 64):
        raise ValueError(f"code is 16-, 32- or 64-bit, not {mode}-bit")
    # Capstone takes a tenth of a second to load, and most programs never disassemble anything.
    import capstone

    width = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}[mode]
    decoder = capstone.Cs(capstone.CS_ARCH_X86, width)
    found: list[Instruction] = []
    offset = 0
    while offset < len(code) and len(found) < count:
        here = address + offset
        window = bytes(code[offset : offset + MAX_INSTRUCTION])
        decoded = next(decoder.disasm_lite(window, here, 1), None)
        if decoded is None:
            found.append(Instruction(here, window[:1], "(bad)"))
            offset += 1
            continue
        _, size, mnemonic, operands = decoded
        found.append(Instruction(here, window[:size], f"{mnemonic} {operands}".strip()))
        offset += size
    return found


def disassemble(code: bytes, address: int, mode: int, count: int = 8) -> list[str]:
    """The same as lines such as "0x1000: b8 34 12  mov ax, 0x1234", the instructions in one column."""
    decoded = instructions(code, address, mode, count)
    hexes = [one.code.hex(" ") for one in decoded]
    width = max(map(len, hexes), default=0)
    return [f"{one.address:#x}: {text:<{width}}  {one.text}" for one, text in zip(decoded, hexes, strict=True)]
