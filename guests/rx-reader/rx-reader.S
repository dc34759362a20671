# rx-reader: empties the receiver, as a driver's interrupt handler does.
#
# At each of `count` steps it writes the step's number to the test bench, which lets bytes come in; then a byte of
# `option` goes to FCR, if it isn't 0. Then it reads LSR, and RBR if bit 0 of LSR says so, and again until it doesn't:
# "63.41 61.42 60 5e" is LSR 63 and byte 41, LSR 61 and byte 42, LSR 60, and a byte of the stream.
#
# Source: PC16550D datasheet (National Semiconductor), "Line Status Register", "FIFO Control Register".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "uart.inc"

.globl _start
_start:
    SEED
    mov dx, [the_port]
    xor ebp, ebp
step:
    cmp ebp, [the_count]
    jae done
    mov ax, bp
    out BENCH, al
    mov si, bp
    and si, 3
    mov al, [the_option + si]
    test al, al
    jz 1f
    OUTB IIR
1:  mov byte ptr [left], END_OF_TIMES
2:  INB LSR
    mov [status], al
    HEX 2
    test byte ptr [status], 1
    jz 3f
    CHAR '.'
    INB RBR
    HEX 2
    CHAR SPACE
    dec byte ptr [left]
    jnz 2b
3:  CHAR SPACE
    NEXT_BYTE
    HEX 2
    CHAR NEWLINE
    inc bp
    jmp step
done:
    hlt

status: .byte 0
left:   .byte 0

PARAMETERS port=0xE9, count=2, option=1
