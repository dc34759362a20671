# uart-detective: finds out which UART there is, if any, by the way it behaves. Linux does the same at each boot.
#
# IER must keep four bits; in loopback MSR must mirror MCR: else there is "no UART". SCR must keep a byte, else it is an
# 8250. With FCR = 1 the upper bits of IIR are 0 for a 16450, 2 for a 16550 whose FIFO is broken, 3 for a 16550A. Last
# it sends 20 bytes to itself and counts how many come back. All that it saw: "00 0f 90 5e c1 10 16550A".
#
# Source: Linux, drivers/tty/serial/8250/8250_port.c, autoconfig; PC16550D datasheet, "Modem Control Register".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "uart.inc"

.macro EVIDENCE number          # AL is kept, and printed
    mov [seen + \number], al
    HEX 2
    CHAR SPACE
.endm

.globl _start
_start:
    SEED
    mov dx, [the_port]
    xor ebp, ebp
    OUTB IER, 0
    INB IER
    EVIDENCE 0
    OUTB IER, 0xFF
    INB IER
    EVIDENCE 1
    OUTB IER, 0
    OUTB MCR, 0x1A              # loopback, OUT2, RTS
    INB MSR
    and al, 0xF0
    EVIDENCE 2
    mov si, offset nothing
    cmp dword ptr [seen], 0x900F00 # DCD and CTS have come back
    jne name
    NEXT_BYTE
    mov [seen + 1], al
    OUTB SCR
    INB SCR
    EVIDENCE 0
    mov ax, [seen]
    mov si, offset oldest
    cmp al, ah
    jne name
    OUTB IIR, 1
    INB IIR
    EVIDENCE 0
    mov cx, 20
1:  OUTB RBR, 'x'
    loop 1b
2:  INB LSR
    test al, 1
    jz 3f
    INB RBR
    inc bp
    cmp bp, END_OF_TIMES
    jb 2b
3:  mov eax, ebp
    EVIDENCE 1
    movzx si, byte ptr [seen]
    and si, 0xC0
    shr si, 3                   # eight bytes to a name
    add si, offset chips
name:
    call put_text
    CHAR NEWLINE
    hlt

nothing: .asciz "no UART"
oldest: .asciz "8250"
chips: .ascii "16450\0\0\0unknown\0", "16550\0\0\0", "16550A\0\0"
seen:    .long 0

PARAMETERS port=0xE9
