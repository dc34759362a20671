# table-editor: moves windows over its memory by writing to its own page table.
#
# The window is `size` bytes at the virtual address `address`; the first of its page-table entries is at `value`. Eight
# pages at `option` are what it can show. `count` times: takes the next two numbers of the stream, n and m; lets page
# n * pages / 2^32 of the window show page m / 2^29; writes the next number through the window, 4 bytes. An odd m writes
# the lower half of the entry only. Then folds the first 4 bytes of the eight pages, read where they are, and prints it:
# f = rotate_left(f, 5) XOR value, at the end XOR the next number.
#
# Source: Intel SDM vol. 3, "Invalidation of TLBs and Paging-Structure Caches"; vol. 2, INVLPG.

.intel_syntax noprefix
.code64
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.set PRESENT_WRITABLE, 3

.globl _start
_start:
    SEED
    mov r12d, [the_count]
    mov ecx, [the_size]
    shr ecx, 12                 # the window in pages
    jz show
again:
    dec r12d
    js show
    NEXT
    mul ecx                     # EDX = n * pages / 2^32
    mov rsi, [the_value]
    lea rsi, [rsi + 8 * rdx]
    mov rdi, rdx
    shl rdi, 12
    add rdi, [the_address]
    NEXT
    mov edx, eax
    shr eax, 29
    shl eax, 12
    add rax, [the_option]
    or eax, PRESENT_WRITABLE
    test edx, 1
    jnz half
    mov [rsi], rax
    jmp edited
half:
    mov [rsi], eax
edited:
    invlpg [rdi]                # the processor may remember the old entry
    NEXT
    mov [rdi], eax
    jmp again
show:
    xor r13d, r13d
    mov ebp, 8
    mov rdi, [the_option]
fold:
    rol r13d, 5
    xor r13d, [rdi]
    add rdi, 0x1000
    dec ebp
    jnz fold
    mov dx, [the_port]
    NEXT
    xor eax, r13d
    HEX 8
    CHAR NEWLINE
    hlt

PARAMETERS address=0x20000, size=0, option=0x30000
