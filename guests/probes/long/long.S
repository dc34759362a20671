# long: does 64-bit code run in ring 0, with registers of 64 bits and addresses relative to RIP?
#
# Source: Intel SDM vol. 3, "IA-32e Mode Operation"; vol. 2, "RIP-Relative Addressing".

.intel_syntax noprefix
.code64
.include "params.inc"
.include "probe.inc"

.globl _start
_start:
    mov rax, 0x123456789ABCDEF0
    mov r8, rax
    push r8
    pop r15
    ror r15, 32
    cmp r15, [rip + turned]
    jne failed
    PASS
failed:
    FAIL

turned: .quad 0x9ABCDEF012345678

PARAMETERS
