# software-interrupt: does INT n work in 64-bit ring 0? An exception through the same table may, and this may not.
#
# Source: Intel SDM vol. 2, INT n; vol. 3, "64-Bit Mode IDT".

.intel_syntax noprefix
.code64
.include "params.inc"
.include "probe.inc"

.set CODE64, 0x18               # the host's GDT has a 64-bit code segment here

.globl _start
_start:
    lidt [idt_pointer]
    xor eax, eax
    int 0x20
    cmp eax, 0x12345678
    jne failed
    PASS
failed:
    FAIL

handler:
    mov eax, 0x12345678
    iretq

    .balign 16
idt:
    .skip 0x20 * 16
    .word handler, CODE64, 0x8E00, 0    # vector 0x20, the first that is not the processor's own
    .quad 0
idt_pointer:
    .word . - idt - 1
    .quad idt

PARAMETERS
