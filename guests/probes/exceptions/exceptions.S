# exceptions: does an exception in 64-bit ring 0 reach its handler, and IRETQ come back?
#
# The handler of #UD skips the undefined instruction: the saved RIP points at it, not behind it, for #UD is a fault.
#
# Source: Intel SDM vol. 3, "Interrupt 6: Invalid Opcode Exception (#UD)" and "64-Bit Mode IDT".

.intel_syntax noprefix
.code64
.include "params.inc"
.include "probe.inc"

.set CODE64, 0x18               # the host's GDT has a 64-bit code segment here

.globl _start
_start:
    lidt [idt_pointer]
    xor eax, eax
    ud2
    cmp eax, 0x12345678
    jne failed
    PASS
failed:
    FAIL

undefined:
    mov eax, 0x12345678
    add qword ptr [rsp], 2      # the length of UD2
    iretq

    .balign 16
idt:
    .skip 6 * 16
    .word undefined, CODE64, 0x8E00, 0  # vector 6
    .quad 0
idt_pointer:
    .word . - idt - 1
    .quad idt

PARAMETERS
