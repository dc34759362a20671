# unknown-port: reads a port that nobody answers.
#
# Reads 1, 2 and 4 bytes from the port `value` and prints what it saw after the next number of the stream, in
# hexadecimal: "9c0e41aa ff ffff ffffffff". On a PC no device drives the data lines then, and they float high. This
# is how an operating system finds out what is not there.
#
# Source: Intel SDM vol. 1, "I/O Port Addressing"; chipset datasheets, "Master Abort": a read returns all ones.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.globl _start
_start:
    SEED
    mov dx, [the_value]
    in al, dx
    movzx ebp, al
    in ax, dx
    movzx esi, ax
    in eax, dx
    push eax

    mov dx, [the_port]
    NEXT
    HEX 8
    CHAR SPACE
    mov eax, ebp
    HEX 2
    CHAR SPACE
    mov eax, esi
    HEX 4
    CHAR SPACE
    pop eax
    HEX 8
    CHAR NEWLINE
    hlt

PARAMETERS value=0xEE0
