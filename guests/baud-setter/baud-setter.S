# baud-setter: sets up a serial port, and looks whether everything has arrived.
#
# `count` times: format, interrupt enables and scratch byte go to LCR, IER and SCR; then DLAB opens the door to the two
# divisor registers, which hide IER. All is read back: "3 1b 0c2f 5e" is IER, LCR, divisor, SCR.
#
# Source: PC16550D datasheet (National Semiconductor), "Line Control Register", "Programmable Baud Generator".

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
    mov ebp, [the_count]
again:
    test ebp, ebp
    jz done
    NEXT
    shr eax, 16
    or al, 1                    # 0 is no divisor
    mov [divisor], ax
    NEXT_BYTE
    and al, 0x3F                # neither DLAB nor a break
    mov [format], al
    NEXT_BYTE
    and al, 0x0F
    mov [enables], al
    NEXT_BYTE
    mov [scratch], al
    OUTB LCR, [format]
    OUTB IER, [enables]
    OUTB SCR, [scratch]
    call open
    OUTB RBR, [divisor]
    OUTB IER, [divisor + 1]
    OUTB LCR, [format]
    INB IER
    HEX 1
    CHAR SPACE
    INB LCR
    HEX 2
    CHAR SPACE
    call open
    INB IER
    HEX 2
    INB RBR
    HEX 2
    CHAR SPACE
    OUTB LCR, [format]
    INB SCR
    HEX 2
    CHAR NEWLINE
    dec ebp
    jmp again
done:
    hlt

open:                           # the door to the divisor
    mov al, [format]
    or al, DLAB
    OUTB LCR
    ret

divisor: .word 0
format:  .byte 0
enables: .byte 0
scratch: .byte 0

PARAMETERS port=0xE9, count=4
