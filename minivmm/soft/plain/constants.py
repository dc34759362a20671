"""The numbers of native/engine.h and native/instructions.c; tests/soft/test_plain.py compares them with those files.

Source: unicorn/unicorn.h 2.1.4; SDM vol. 3, "Control Registers", "Page-Fault Exceptions".
"""

from __future__ import annotations

# why it stopped: SOFT_*
(BUDGET, KICK, WINDOW, INSTRUCTION, EXCEPTION, UNDEFINED, PAGE_FAULT, NON_CANONICAL, DEVICE, FETCH_DEVICE, HALTED,
 FOUND, STALE, STEPPED, ENGINE) = range(15)  # fmt: skip
READ, WRITE, FETCH = range(3)  # ACCESS_*
NO_WINDOW, ASK, ANSWER = range(3)  # WINDOW_*

CR0_PE, CR0_WP, CR0_PG = 1, 1 << 16, 1 << 31
CR4_PSE, CR4_PAE, CR4_SMEP = 1 << 4, 1 << 5, 1 << 20
EFER_LMA, EFER_NXE = 1 << 10, 1 << 11
TF, IF, RF, VM = 1 << 8, 1 << 9, 1 << 16, 1 << 17  # RFLAGS
DESC_P, DESC_DB = 1 << 15, 1 << 22
HF_CPL, HF_SHADOW, HF_CODE32, HF_CODE64 = 3, 1 << 3, 1 << 4, 1 << 15

PAGE = 4096
MASK32, MASK64 = (1 << 32) - 1, (1 << 64) - 1

# Unicorn: accesses, hooks, protections, and what uc_ctl is asked for
UC_MEM_WRITE, UC_MEM_FETCH, UC_MEM_WRITE_UNMAPPED = 17, 18, 20
HOOK_INTR, HOOK_INSN, HOOK_CODE, HOOK_BLOCK = 1 << 0, 1 << 1, 1 << 2, 1 << 3
HOOK_READ_UNMAPPED, HOOK_WRITE_UNMAPPED = 1 << 4, 1 << 5
HOOK_INVALID, HOOK_EDGE, HOOK_TLB_FILL = 1 << 14, 1 << 15, 1 << 17
PROT_R, PROT_W, PROT_X = 1, 2, 4
_CTL_WRITE = 1 << 30
CTL_REMOVE_CACHE = 9 | 2 << 26 | _CTL_WRITE  # of the addresses from … to
CTL_FLUSH_TLB = 11 | _CTL_WRITE

PREFIXES = b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf2\xf3"


def page_of(address: int) -> int:
    return address & ~(PAGE - 1)
