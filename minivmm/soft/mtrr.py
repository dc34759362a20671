"""The memory type range registers: kept and checked, without effect. There are no caches here.

Firmware and kernels write them, and read back what they wrote.

Source: Intel SDM vol. 3, "Memory Type Range Registers (MTRRs)".
"""

from __future__ import annotations

MTRRCAP, DEF_TYPE = 0xFE, 0x2FF
PAIRS = 8
VARIABLE = range(0x200, 0x200 + 2 * PAIRS)  # base, mask, base, mask …
FIXED = (0x250, 0x258, 0x259, *range(0x268, 0x270))  # 64 KiB, 16 KiB, 4 KiB: eight ranges a register
INDICES = (DEF_TYPE, *FIXED, *VARIABLE)

_FIXED_RANGES, _WRITE_COMBINING = 1 << 8, 1 << 10
CAPABILITIES = PAIRS | _FIXED_RANGES | _WRITE_COMBINING

TYPES = {0, 1, 4, 5, 6}  # UC, WC, WT, WP, WB
PAT_TYPES = {*TYPES, 7}  # UC-
_DEF_TYPE_DEFINED = 0xCFF  # the default type; FE and E in bits 10 and 11
_BASE_RESERVED, _MASK_RESERVED = 0xF00, 0x7FF  # below the address; bit 11 of a mask is "valid"


def is_valid(index: int, value: int, physical_bits: int) -> bool:
    """Whether one of `INDICES` may have this value on a CPU with addresses of `physical_bits`."""
    if index == DEF_TYPE:
        return not value & ~_DEF_TYPE_DEFINED and value & 0xFF in TYPES
    if index in FIXED:
        return all(kind in TYPES for kind in value.to_bytes(8, "little"))
    if value >> physical_bits:
        return False
    is_base = not index & 1
    return not value & _BASE_RESERVED and value & 0xFF in TYPES if is_base else not value & _MASK_RESERVED


def is_pat_valid(value: int) -> bool:
    """IA32_PAT: eight memory types (SDM vol. 3, "IA32_PAT MSR")."""
    return all(kind in PAT_TYPES for kind in value.to_bytes(8, "little"))
