# nmi-watchdog: hangs with interrupts off, and can tell nobody, unless an NMI comes.
#
# It ticks on port 0xE0: `value` ticks with interrupts off, one with interrupts on, and so `count` times. Then, with
# interrupts off, it ticks for ever: it hangs. The handler of the NMI prints how often interrupts had been on when the
# NMI came, and a byte of the stream: "03 7f". That is all that is left of a dead machine, and often enough.
#
# Source: Intel SDM vol. 3, "Nonmaskable Interrupt (NMI)": IF does not mask it, and its vector is 2.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.set TICK, 0xE0
.set NMI, 2
.set DEBUG_EXIT, 0xF4

.globl _start
_start:
    mov word ptr [NMI * 4], offset handler
    mov word ptr [NMI * 4 + 2], 0
    xor bp, bp
again:
    cli
    mov cx, [the_value]
1:  out TICK, al
    loop 1b
    cmp bp, [the_count]
    jae hang
    sti
    nop                         # the instruction after STI is in its shadow
    out TICK, al
    inc bp
    jmp again
hang:
    out TICK, al
    jmp hang

handler:
    SEED
    mov dx, [the_port]
    mov ax, bp
    HEX 2
    CHAR SPACE
    NEXT_BYTE
    HEX 2
    CHAR NEWLINE
    out DEBUG_EXIT, al
    cli
    hlt

PARAMETERS count=3, value=5
