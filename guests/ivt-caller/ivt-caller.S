# ivt-caller: calls software interrupts in real mode, and shows what came back.
#
# `count` times it picks one of the vectors 0x60 to 0x67 by the stream and executes INT. The host has written the
# interrupt vector table and the handlers. A line has the vector, and AL as the handler left it XORed with the next
# byte of the stream: "63 1f".
#
# Source: Intel SDM vol. 3, "Interrupt and Exception Handling" in real-address mode: vector n is a far pointer at 4 * n,
# the offset first; INT pushes FLAGS, CS and IP, and IRET takes them back.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.set FIRST, 0x60

.globl _start
_start:
    SEED
    mov dx, [the_port]
    mov bp, [the_count]
again:
    test bp, bp
    jz done
    NEXT
    shr eax, 29
    mov si, ax
    add al, FIRST
    HEX 2
    CHAR SPACE
    xor eax, eax
    imul di, si, 3
    add di, offset calls
    call di
    movzx esi, al
    NEXT_BYTE
    xor eax, esi
    HEX 2
    CHAR NEWLINE
    dec bp
    jmp again
done:
    hlt

calls:                          # three bytes each
    .set vector, FIRST
    .rept 8
    .byte 0xCD, vector          # INT
    ret
    .set vector, vector + 1
    .endr

PARAMETERS count=8
