# interrupts: does INT n go through the interrupt vector table in real mode, and IRET come back?
#
# Source: Intel SDM vol. 3, "Interrupt and Exception Handling" in real-address mode: vector n is a far pointer at 4
# * n.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "probe.inc"

.set VECTOR, 0x40

.globl _start
_start:
    mov word ptr [VECTOR * 4], offset handler
    mov word ptr [VECTOR * 4 + 2], 0
    xor eax, eax
    mov bp, sp
    int VECTOR
    cmp eax, 0x12345678
    jne failed
    cmp bp, sp                  # IRET took off all that INT put there
    jne failed
    PASS
failed:
    FAIL

handler:
    mov eax, 0x12345678
    iret

PARAMETERS
