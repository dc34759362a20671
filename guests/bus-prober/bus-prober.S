# bus-prober: reads and writes ports all over a range, in every width.
#
# `count` times the stream says where: `address` plus the upper half of the next number, times `size`, divided by 2^16.
# The byte after it says what: from 0x80 on a write, whose value is the next number, else a read. Its lower seven bits
# say how wide: below 0x20 one byte, below 0x40 two, else four. A read prints the port, 4 digits, and what it found, two
# digits a byte: "0502 ffff". A write prints nothing: it shows in the devices, and in later reads.
#
# Source: Intel SDM vol. 1, "I/O Port Addressing"; vol. 2, IN and OUT.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.macro READ accumulator, number
    in \accumulator, dx
    mov byte ptr [digits], \number
    jmp show
.endm

.macro WRITE accumulator
    out dx, \accumulator
    jmp again
.endm

.globl _start
_start:
    SEED
    mov ebp, [the_count]
again:
    sub ebp, 1
    jb done
    NEXT
    shr eax, 16
    mul word ptr [the_size]     # DX: where in the range
    add dx, [the_address]
    NEXT_BYTE
    mov cl, al
    test al, al
    js write

    xor eax, eax
    cmp cl, 0x40
    jae 4f
    cmp cl, 0x20
    jae 2f
    READ al, 2
2:  READ ax, 4
4:  READ eax, 8
show:
    mov [found], eax
    movzx eax, dx
    mov dx, [the_port]
    HEX 4
    CHAR SPACE
    mov eax, [found]
    HEX [digits]
    CHAR NEWLINE
    jmp again

write:
    NEXT
    cmp cl, 0xC0
    jae 4f
    cmp cl, 0xA0
    jae 2f
    WRITE al
2:  WRITE ax
4:  WRITE eax
done:
    hlt

found:
    .long 0
digits:
    .long 0

PARAMETERS count=16, address=0x500, size=16
