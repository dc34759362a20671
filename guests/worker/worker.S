# worker: does `count` pieces of work and halts.
#
# Each piece prints a letter, a to p, and takes `value` ticks and some more (a write to port 0xE0 lets them pass).
#
# Source: Intel SDM vol. 2, OUT, HLT.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.set CLOCK, 0xE0

.globl _start
_start:
    SEED
    mov ebp, [the_count]
    mov dx, [the_port]
again:
    test ebp, ebp
    jz done
    NEXT_BYTE
    shr al, 4
    add al, 'a'
    out dx, al
    NEXT
    shr eax, 20
    and eax, [the_option]
    add eax, [the_value]
    out CLOCK, eax
    dec ebp
    jmp again
done:
    hlt

PARAMETERS count=12, value=100, option=63
