# far-writer: writes to virtual addresses that the host lists, through whatever page tables it was given.
#
# `count` times: takes the next 8 bytes of the list at `address` for a virtual address, and writes the next number of
# the stream there, 4 bytes. Where they land in physical memory, the page tables decide. Then prints the next number,
# 8 digits.
#
# Source: Intel SDM vol. 3, "4-Level Paging and 5-Level Paging".

.intel_syntax noprefix
.code64
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.globl _start
_start:
    SEED
    mov rsi, [the_address]
    mov ebp, [the_count]
again:
    test ebp, ebp
    jz done
    mov rdi, [rsi]
    add rsi, 8
    NEXT
    mov [rdi], eax
    dec ebp
    jmp again
done:
    mov dx, [the_port]
    NEXT
    HEX 8
    CHAR NEWLINE
    hlt

PARAMETERS address=0x8000
