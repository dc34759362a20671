# page-toucher: writes to pages that only the nonce knows, for the dirty log.
#
# `count` times: takes the next two numbers of the stream, n and m, and writes m to the region of `size` bytes at
# `address`, into page n * pages / 2^32, at the offset that bits 31 to 20 of m give, its last two bits cleared. A
# page may be hit more than once. Then prints the next number of the stream, 8 digits.
#
# Source: KVM API, KVM_GET_DIRTY_LOG and "KVM_MEM_LOG_DIRTY_PAGES".

.intel_syntax noprefix
.code32
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.globl _start
_start:
    SEED
    mov ebp, [the_count]
    mov ecx, [the_size]
    shr ecx, 12                 # the size in pages
    jz done
touch:
    test ebp, ebp
    jz done
    NEXT
    mul ecx                     # EDX = n * pages / 2^32: a page number without a division
    mov edi, edx
    shl edi, 12
    add edi, [the_address]
    NEXT
    mov edx, eax
    shr edx, 20
    and edx, 0xFFC
    mov [edi + edx], eax
    dec ebp
    jmp touch
done:
    mov dx, [the_port]
    NEXT
    HEX 8
    CHAR NEWLINE
    hlt

PARAMETERS address=0x20000, size=0x40000, count=12
