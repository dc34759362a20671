# hole-prober: finds out where RAM ends and begins again.
#
# There is a hole in RAM, `size` bytes from `address` on. The guest writes bytes of the stream to the last byte
# below it, its first, its last, and the first above. Then it reads the four in the same order and prints a line for
# each, the byte written and the byte found: "3f > ff". RAM remembers; in the hole nobody answers, and reads find
# all ones. A hole that is off by one shows.
#
# Source: KVM API, KVM_SET_USER_MEMORY_REGION: an address in no slot is MMIO; chipset datasheets, "Master Abort".

.intel_syntax noprefix
.code32
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.globl _start
_start:
    mov eax, [the_address]
    lea ecx, [eax - 1]
    mov [places], ecx
    mov [places + 4], eax
    add eax, [the_size]
    lea ecx, [eax - 1]
    mov [places + 8], ecx
    mov [places + 12], eax

    SEED
    xor ebp, ebp
write:
    NEXT_BYTE
    mov esi, [places + ebp * 4]
    mov [esi], al
    inc ebp
    cmp ebp, 4
    jb write

    SEED                        # the same bytes again
    mov dx, [the_port]
    xor ebp, ebp
show:
    NEXT_BYTE
    HEX 2
    CHAR SPACE
    CHAR '>'
    CHAR SPACE
    mov esi, [places + ebp * 4]
    mov al, [esi]
    HEX 2
    CHAR NEWLINE
    inc ebp
    cmp ebp, 4
    jb show
    hlt

places:
    .long 0, 0, 0, 0            # below the hole, its first byte, its last, above it

PARAMETERS address=0x50000, size=0x10000
