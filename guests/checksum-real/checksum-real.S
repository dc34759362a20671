# checksum-real: the checksum guest for real mode, which reaches the first 64 KiB only.
#
# Prints the checksum of the bytes in [address, address + size), keyed by the nonce, as b then a (see checksum.inc),
# and a newline.
#
# Source: Intel SDM vol. 3, "Real-Address Mode": offsets above 0xFFFF are beyond the limit of every segment.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "console.inc"
.include "checksum.inc"

.globl _start
_start:
    mov esi, [the_address]
    mov ebp, [the_size]
    call checksum
    mov dx, [the_port]
    HEX 8
    mov eax, ebx
    HEX 8
    CHAR NEWLINE
    hlt

PARAMETERS address=0x1000, size=0x40
