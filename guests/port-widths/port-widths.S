# port-widths: one port, three widths.
#
# For the widths 1, 2 and 4 bytes in turn: writes the low bytes of the next number of the stream, reads as much, and
# writes back what it read, XORed with the low bytes of the number after. Nine exits, whose `size` is 1, 1, 1, 2, 2,
# 2, 4, 4, 4. A VMM that takes every access for a byte loses most of this.
#
# Source: Intel SDM vol. 2, IN and OUT; vol. 1, "I/O Port Addressing".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"

# The accumulator has a name for each width: AL, AX, EAX; the key waits in CL, CX, ECX.
.macro EXCHANGE accumulator, key
    NEXT
    out dx, \accumulator
    NEXT
    mov ecx, eax
    in \accumulator, dx
    xor \accumulator, \key
    out dx, \accumulator
.endm

.globl _start
_start:
    SEED
    mov dx, [the_port]
    EXCHANGE al, cl
    EXCHANGE ax, cx
    EXCHANGE eax, ecx
    hlt

PARAMETERS port=0x500           # not the serial port: its neighbours would get the upper bytes
