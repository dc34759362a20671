# page-user: reads some pages and writes to others, for the accessed and dirty bits.
#
# First loads CR3 with what it holds: the processor forgets every translation, and will set the bits anew. Then `count`
# times: takes the next two numbers of the stream, n and m. In page n * pages / 2^32 of the `size` bytes at the virtual
# address `address` it writes m, 4 bytes, if the highest bit of m is set, else it reads. Then prints the next number.
#
# Source: Intel SDM vol. 3, "Accessed and Dirty Flags"; "Operations that Invalidate TLBs and Paging-Structure Caches".

.intel_syntax noprefix
.code64
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.globl _start
_start:
    mov rax, cr3
    mov cr3, rax
    SEED
    mov r12d, [the_count]
    mov ecx, [the_size]
    shr ecx, 12                 # the size in pages
    jz done
again:
    dec r12d
    js done
    NEXT
    mul ecx                     # EDX = n * pages / 2^32
    mov rdi, rdx
    shl rdi, 12
    add rdi, [the_address]
    NEXT
    test eax, eax
    js store
    mov eax, [rdi]
    jmp again
store:
    mov [rdi], eax
    jmp again
done:
    mov dx, [the_port]
    NEXT
    HEX 8
    CHAR NEWLINE
    hlt

PARAMETERS address=0x20000, size=0x40000, count=12
