# msr-reader: reads a model-specific register, and writes it if the host allows.
#
# Prints what RDMSR gives for the register `value`, 16 hexadecimal digits. If `option` is not 0, it writes the
# nonce, ANDed with `option`, to the register and prints what RDMSR gives then: a mask, because most registers
# refuse some bits. The last line is the next number of the stream, 8 digits.
#
# Source: Intel SDM vol. 2, RDMSR and WRMSR; vol. 4, "Model-Specific Registers".

.intel_syntax noprefix
.code64
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.macro SHOW_MSR
    mov ecx, [the_value]
    rdmsr                       # EDX:EAX, also in 64-bit mode
    mov esi, eax
    mov eax, edx
    mov dx, [the_port]
    HEX 8
    mov eax, esi
    HEX 8
    CHAR NEWLINE
.endm

.globl _start
_start:
    SHOW_MSR
    cmp qword ptr [the_option], 0
    je done
    mov eax, [the_nonce]
    mov edx, [the_nonce + 4]
    and eax, [the_option]
    and edx, [the_option + 4]
    mov ecx, [the_value]
    wrmsr
    SHOW_MSR
done:
    SEED
    NEXT
    HEX 8
    CHAR NEWLINE
    hlt

PARAMETERS value=0xC0000102, option=0x7FFFFFFFFFFF   # KERNEL_GS_BASE, whose bits 63 to 47 must be the same
