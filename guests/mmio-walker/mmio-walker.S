# mmio-walker: reads and writes memory-mapped devices all over a range, in every width, aligned or not.
#
# `count` times the stream says where: `address` plus the upper half of the next number, times `size`, divided by 2^16.
# The byte after it says what: from 0x80 on a write, whose value are the next two numbers, the lower half first; else a
# read. Bits 5 and 6 say how wide: 1, 2, 4 or 8 bytes. A read prints what it found, 16 digits; a write prints nothing.
#
# Source: KVM API, "5. The kvm_run structure", KVM_EXIT_MMIO; Intel SDM vol. 3, "Bus Locking", on split accesses.

.intel_syntax noprefix
.code64
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.macro LOAD register
    mov \register, [rbp]
    jmp show
.endm
.macro STORE register
    mov [rbp], \register
    jmp again
.endm
.globl _start
_start:
    SEED
    mov dx, [the_port]
    mov r8d, [the_count]
again:
    dec r8d
    js done
    NEXT
    shr eax, 16
    imul eax, [the_size]
    shr eax, 16
    add eax, [the_address]
    mov ebp, eax
    NEXT_BYTE
    shr eax, 5
    mov r10d, eax
    xor r9d, r9d
    cmp r10d, 4
    jae write
    cmp r10d, 2
    ja 8f
    je 4f
    cmp r10d, 1
    je 2f
    LOAD r9b
2:  LOAD r9w
4:  LOAD r9d
8:  LOAD r9
show:
    mov rax, r9
    shr rax, 32
    HEX 8
    mov eax, r9d
    HEX 8
    CHAR NEWLINE
    jmp again

write:
    NEXT
    mov r9d, eax
    NEXT
    shl rax, 32
    or rax, r9
    cmp r10d, 6
    ja 8f
    je 4f
    cmp r10d, 5
    je 2f
    STORE al
2:  STORE ax
4:  STORE eax
8:  STORE rax
done:
    hlt

PARAMETERS count=16, address=0xD0000FF0, size=32
