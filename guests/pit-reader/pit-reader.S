# pit-reader: reads counter 0 of an 8254, latched and as it is.
#
# `count` times: writes the control word `option`, then a count n (low byte, high byte); lets ticks pass; latches; lets
# more ticks pass; reads two bytes, then two more. Prints n and the two readings: "04d2 01f4 0123". Ticks pass by a
# write to port 0xE0, so they depend on nobody's speed. The first reading is what the latch kept, the second is the
# present.
#
# Source: Intel 8254 datasheet (231164), "Write Operations", "Counter Latch Command".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.set CLOCK, 0xE0
.set COUNTER, 0x40
.set CONTROL, 0x43

.macro WAIT
    NEXT
    shr eax, 16
    out CLOCK, eax
.endm

.globl _start
_start:
    SEED
    mov ebp, [the_count]
    mov dx, [the_port]
again:
    test ebp, ebp
    jz done
    mov al, [the_option]
    out CONTROL, al
    NEXT
    shr eax, 16
    and ax, [the_value]
    or ax, [the_value + 2]
    out COUNTER, al
    xchg al, ah
    out COUNTER, al
    xchg al, ah
    HEX 4
    WAIT
    mov al, 0                   # latch counter 0
    out CONTROL, al
    WAIT
    call reading
    call reading
    CHAR NEWLINE
    dec ebp
    jmp again
done:
    hlt

reading:
    CHAR SPACE
    in al, COUNTER
    mov ah, al
    in al, COUNTER
    xchg al, ah
    HEX 4
    ret

PARAMETERS count=4, value=0x0002FFFC, option=0x34
