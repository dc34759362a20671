# countdown: prints `count` lines, then stops.
#
# Each line holds the number of lines that are left, this one included, and the next number of the stream, both as
# eight hexadecimal digits: "00000003 9c0e41aa". A program that runs, does I/O and ends, as any other; but this one
# has a machine for itself.
#
# Source: Intel SDM vol. 2, HLT.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.globl _start
_start:
    SEED
    mov dx, [the_port]
    mov ebp, [the_count]
line:
    test ebp, ebp
    jz done
    mov eax, ebp
    HEX 8
    CHAR SPACE
    NEXT
    HEX 8
    CHAR NEWLINE
    dec ebp
    jmp line
done:
    hlt

PARAMETERS count=3
