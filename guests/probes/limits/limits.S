# limits: does an access beyond a segment's limit raise #GP?
#
# Hardware looks at every access. An emulated processor may save itself the trouble: QEMU's does.
#
# Source: Intel SDM vol. 3, "Limit Checking", "Interrupt 13: General Protection Exception (#GP)".

.intel_syntax noprefix
.code32
.include "params.inc"
.include "probe.inc"

.set LAST, 0xFFF                # of the small segment
.set CODE32, 0x08
.set SMALL, 0x10

.globl _start
_start:
    lgdt [gdt_pointer]
    lidt [idt_pointer]
    mov ecx, SMALL
    mov fs, ecx
    mov eax, fs:[LAST - 3]      # the last four bytes inside
    mov ebx, 1
    mov eax, fs:[LAST - 2]      # one byte of four is outside
    FAIL                        # nobody looked

general_protection:
    cmp ebx, 1                  # and not before
    jne failed
    PASS
failed:
    FAIL

    .balign 8
gdt:
    .quad 0
    .quad 0x00CF9B000000FFFF    # CODE32: flat code
    .quad 0x0040930000000000 | LAST     # SMALL: data from 0, its limit in bytes
gdt_pointer:
    .word . - gdt - 1
    .long gdt
idt:
    .skip 13 * 8                # not present: vectors 0 to 12 don't happen here
    .word general_protection, CODE32, 0x8E00, 0 # offset low, CS, present 32-bit interrupt gate, offset high
idt_pointer:
    .word . - idt - 1
    .long idt

PARAMETERS
