# syscall: does SYSCALL take user code to ring 0?
#
# STAR says which selectors, LSTAR where to, SFMASK which flags to clear, and EFER.SCE that it is allowed at all.
#
# Source: Intel SDM vol. 2, SYSCALL; vol. 3, "Fast System Calls in 64-Bit Mode".

.intel_syntax noprefix
.code64
.include "params.inc"
.include "probe.inc"
.include "tables.inc"
.include "ring3.inc"

.macro WRITE_MSR number, high, low
    mov ecx, \number
    mov edx, \high
    mov eax, \low
    wrmsr
.endm

.globl _start
_start:
    PREPARE_RING3
    WRITE_MSR 0xC0000081, (0x10 << 16) + KERNEL_CODE, 0     # STAR: SYSRET and SYSCALL selectors
    WRITE_MSR 0xC0000082, 0, "offset kernel"                # LSTAR
    WRITE_MSR 0xC0000084, 0, 0                              # SFMASK
    mov ecx, 0xC0000080                                     # EFER
    rdmsr
    or eax, 1                                               # SCE
    wrmsr
    ENTER_RING3 user

user:
    mov eax, 0x12345678
    syscall
after_syscall:
    jmp user                    # never reached

kernel:
    cmp eax, 0x12345678
    jne failed
    cmp rcx, offset after_syscall       # SYSCALL leaves the return address here
    jne failed
    mov ecx, cs
    cmp ecx, KERNEL_CODE
    jne failed
    PASS
failed:
    FAIL

RING3_GDT
PARAMETERS
