"""What an instruction is to us. The engine's side, native/instructions.c, has the same list as INSN_*."""

from __future__ import annotations

from enum import IntEnum


class Kind(IntEnum):
    """Why the engine stopped before an instruction."""

    NONE = 0
    IN = 1
    OUT = 2
    INS = 3
    OUTS = 4
    HLT = 5
    RDMSR = 6
    WRMSR = 7
    CPUID = 8
    SYSCALL = 9
    SYSENTER = 10
    HYPERCALL = 11
    MOV_TO_CR = 12
    MOV_FROM_CR = 13
    MOV_TO_DR = 14
    MOV_FROM_DR = 15
    LMSW = 16
    XSETBV = 17
    ABSENT = 18  # one that CPUID denies, though the engine would do it
    IRET = 19
    UNKNOWN = 20  # to Capstone; the engine knows whether it is one
    BREAKPOINT = 21
    LOAD_SEGMENT = 22
    NULL_SEGMENT = 23
    ICEBP = 24
    PAUSE = 25


LEFT_TO_THE_ENGINE = (Kind.NONE, Kind.UNKNOWN, Kind.PAUSE)  # where one instruction is stepped
