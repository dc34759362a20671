"""The exceptions by number.

Source: SDM vol. 3, "Exception and Interrupt Reference" and "Error Code".
"""

from __future__ import annotations

from minivmm.x86.paging.faults import error_code_in_words

DE, BP, UD, NM, NP, SS, GP, PF = 0, 3, 6, 7, 11, 12, 13, 14
WITH_ERROR_CODE = (8, 10, 11, 12, 13, 14, 17, 21)
NAMES = {
    0: "#DE (divide error)",
    1: "#DB (debug exception)",
    2: "NMI",
    3: "#BP (breakpoint)",
    4: "#OF (overflow)",
    5: "#BR (bound range exceeded)",
    6: "#UD (undefined instruction)",
    7: "#NM (no floating-point unit)",
    8: "#DF (double fault)",
    10: "#TS (invalid TSS)",
    11: "#NP (segment not present)",
    12: "#SS (stack fault)",
    13: "#GP (general protection)",
    14: "#PF (page fault)",
    16: "#MF (x87 error)",
    17: "#AC (alignment check)",
    18: "#MC (machine check)",
    19: "#XM (SIMD error)",
    20: "#VE (virtualization exception)",
    21: "#CP (control protection)",
}


def name_of(vector: int) -> str:
    """ "#PF (page fault)", or "interrupt 0x40" for a vector that is no exception."""
    return NAMES.get(vector, f"interrupt {vector:#x}")


def error_in_words(vector: int, code: int) -> str:
    """An error code in words: 0xf0 of a #GP is "GDT entry 0xf0"."""
    if vector == PF:
        return error_code_in_words(code)
    if code & 2:
        return f"IDT entry {code >> 3:#x}"
    return f"{'LDT' if code & 4 else 'GDT'} entry {code & 0xFFF8:#x}"
