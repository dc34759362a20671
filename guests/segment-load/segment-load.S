# segment-load: what the CPU makes of a descriptor that the host wrote.
#
# Loads FS with the selector `option`, so the CPU itself reads the descriptor from the host's GDT. Then it reads `count`
# 32-bit numbers through FS, from offset `address` up, and prints each with the next number of the stream: "value key".
# A descriptor that is not present raises #NP, one that can't be loaded or lies beyond the GDT's limit #GP; so does an
# offset beyond the segment's limit. The handler prints the exception's name and the selector, or the offset, and halts.
#
# Source: Intel SDM vol. 3, "Segment Descriptors", "Limit Checking", "Interrupt 11: Segment Not Present".

.intel_syntax noprefix
.code32
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.macro GATE handler             # present 32-bit interrupt gate: offset low, CS, offset high
    .word \handler, 0x08, 0x8E00, 0
.endm

.globl _start
_start:
    lidt [idt_pointer]
    SEED
    mov dx, [the_port]
    mov ebp, [the_option]
    mov fs, ebp                 # the visible part is the selector; the hidden part comes from the table
    mov ebp, [the_address]
again:
    cmp dword ptr [the_count], 0
    je done
    mov eax, fs:[ebp]
    HEX 8
    CHAR SPACE
    NEXT
    HEX 8
    CHAR NEWLINE
    add ebp, 4
    dec dword ptr [the_count]
    jmp again
done:
    hlt

not_present:
    TEXT np
    jmp show
general_protection:
    TEXT gp
show:
    mov eax, ebp
    HEX 8
    CHAR NEWLINE
    hlt

np: .asciz "#NP "
gp: .asciz "#GP "

    .balign 8
idt:
    .skip 11 * 8                # not present: vectors 0 to 10 don't happen here
    GATE not_present
    .skip 8
    GATE general_protection
idt_pointer:
    .word . - idt - 1
    .long idt

PARAMETERS count=4, option=0x10
