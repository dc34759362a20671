# segment-base: reads through a segment whose base and limit the host chose.
#
# Reads `count` 32-bit numbers through FS, from offset `address` up, and prints each with the next number of the
# stream: "value key". FS is as the host set it in KVM_SET_SREGS, base and limit included. An offset beyond the
# limit raises #GP: the guest's handler prints "#GP" and the offset, and halts.
#
# Source: Intel SDM vol. 3, "Segment Registers" (the hidden part), "Limit Checking", "Interrupt 13: General
# Protection".

.intel_syntax noprefix
.code32
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.globl _start
_start:
    lidt [idt_pointer]
    SEED
    mov dx, [the_port]
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

general_protection:
    TEXT gp
    mov eax, ebp
    HEX 8
    CHAR NEWLINE
    hlt

gp: .asciz "#GP "

    .balign 8
idt:
    .skip 13 * 8                # not present: vectors 0 to 12 don't happen here
    .word general_protection, 0x08, 0x8E00, 0   # offset low, CS, present 32-bit interrupt gate, offset high
idt_pointer:
    .word . - idt - 1
    .long idt

PARAMETERS count=4
