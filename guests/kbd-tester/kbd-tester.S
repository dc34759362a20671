# kbd-tester: asks the keyboard controller what a driver asks before it trusts it.
#
# First the self test (answer 55) and the command byte, then `count` command bytes, each written and read back: "55 65",
# "3c 3c". Then the output port is written with RESET high, which resets nothing: "!". Then comes what `option` says. A
# byte that does not come is "--".
#
# Source: IBM PC/AT Technical Reference, "Keyboard Controller", "Commands"; Linux, drivers/input/serio/i8042.c.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "uart.inc"

.set DATA, 0x60
.set COMMAND, 0x64

.globl _start
_start:
    SEED
    mov dx, [the_port]
    mov ebp, [the_count]
    OUTB COMMAND, 0xAA
    call answer
    CHAR SPACE
    OUTB COMMAND, 0x20
    call answer
    CHAR NEWLINE
again:
    test ebp, ebp
    jz last
    NEXT_BYTE
    mov [config], al
    OUTB COMMAND, 0x60
    OUTB DATA, [config]
    mov al, [config]
    HEX 2
    CHAR SPACE
    OUTB COMMAND, 0x20
    call answer
    CHAR NEWLINE
    dec ebp
    jmp again
last:
    OUTB COMMAND, 0xD1
    OUTB DATA, 0xDF             # all lines high
    CHAR '!'
    cmp byte ptr [the_option], 1
    ja halt
    je 1f
    OUTB COMMAND, 0xFE
1:  OUTB COMMAND, 0xD1
    OUTB DATA, 0xDE             # RESET low
halt:
    CHAR NEWLINE
    hlt

answer:                         # prints the next byte of the output buffer
    mov cx, END_OF_TIMES
1:  INB COMMAND
    test al, 1
    loopz 1b
    jz 2f
    INB DATA
    HEX 2
    ret
2:  CHAR '-'
    CHAR '-'
    ret

config: .byte 0

PARAMETERS port=0xE9, count=3, option=0
