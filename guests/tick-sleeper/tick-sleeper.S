# tick-sleeper: works a little, sleeps until the timer wakes it, and looks at the clock.
#
# `count` times: works for n / 2^20 ticks (a write to port 0xE0 lets them pass), then STI and HLT. Awake, with
# interrupts off again, it prints the time (a read of port 0xE0), how many interrupts have come so far, and a byte of
# the stream: "000003e8 01 7f". Its last HLT has interrupts off: nothing can wake it.
#
# Source: Intel SDM vol. 2, HLT and STI (the instruction after STI is in its shadow, so no interrupt falls in between).

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.set CLOCK, 0xE0

.globl _start
_start:
    SEED
    mov si, [the_value]
    shl si, 2
    mov word ptr [si], offset handler
    mov word ptr [si + 2], 0
    mov ebp, [the_count]
    mov dx, [the_port]
again:
    test ebp, ebp
    jz done
    NEXT
    shr eax, 20
    out CLOCK, eax
    sti
    hlt
    cli
    in eax, CLOCK
    HEX 8
    CHAR SPACE
    mov al, [wakes]
    HEX 2
    CHAR SPACE
    NEXT_BYTE
    HEX 2
    CHAR NEWLINE
    dec ebp
    jmp again
done:
    hlt

handler:
    inc byte ptr [wakes]
    iret

wakes:
    .byte 0

PARAMETERS count=4, value=8
