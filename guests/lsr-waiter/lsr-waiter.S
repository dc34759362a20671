# lsr-waiter: sends letters as the console of a kernel does, which trusts the UART but has no patience without end.
#
# `count` times: asks LSR whether THRE is set, `value` times at the most, then sends a letter. In the end it waits in
# the same way for THRE and TEMT together. Then it prints how often it asked for the letters, and how often for the
# end: "0000000c 00000001 5e" is a UART that is always ready, and a byte of the stream. Linux waits 1 µs between two
# questions, and asks 10 000 times.
#
# Source: PC16550D datasheet (National Semiconductor), "Line Status Register"; Linux, drivers/tty/serial/8250.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "uart.inc"

.set THRE, 0x20
.set BOTH, 0x60                 # THRE and TEMT

.macro WAIT_FOR bits, counter
    mov ecx, [the_value]
1:  inc dword ptr [\counter]
    INB LSR
    and al, \bits
    cmp al, \bits
    je 2f
    dec ecx
    jnz 1b
2:
.endm

.globl _start
_start:
    SEED
    mov dx, [the_port]
    mov ebp, [the_count]
again:
    test ebp, ebp
    jz done
    WAIT_FOR THRE, asked
    NEXT_BYTE
    shr al, 4
    add al, 'a'
    OUTB RBR
    dec ebp
    jmp again
done:
    WAIT_FOR BOTH, at_the_end
    mov eax, [asked]
    HEX 8
    CHAR SPACE
    mov eax, [at_the_end]
    HEX 8
    CHAR SPACE
    NEXT_BYTE
    HEX 2
    CHAR NEWLINE
    hlt

asked:      .long 0
at_the_end: .long 0

PARAMETERS port=0xE9, count=12, value=100
