# demand-pager: lives on memory that is not there yet, and asks the host for it, fault by fault.
#
# Twice, with the same numbers: `count` times takes the next two, n and m, for the place (m / 2^20, its last two bits
# cleared) in page n * pages / 2^32 of the `size` bytes at `address`. The first time it writes m there; the second time
# it reads, and folds what it finds: f = rotate_left(f, 5) XOR value. Prints f XOR the next number.
#
# The handler of #PF writes CR2 (low half, high half) and the error code to the pager's port, and reads an answer from
# there: not 0, and the access is tried again; 0, and it prints "! 02 00401000" (code, CR2's low half) and goes on.
#
# Source: Intel SDM vol. 3, "Interrupt 14—Page-Fault Exception (#PF)".

.intel_syntax noprefix
.code64
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "faults.inc"
.include "pager.inc"

.macro EACH_PLACE access
    SEED
    mov r12d, [the_count]
1:  mov esp, HOST_STACK
    mov ecx, [the_size]
    shr ecx, 12
    dec r12d
    js 3f
    NEXT
    mul ecx                     # EDX = n * pages / 2^32
    mov rbp, rdx
    shl rbp, 12
    add rbp, [the_address]
    NEXT
    mov edx, eax
    shr edx, 20
    and edx, 0xFFC
    add rbp, rdx
    mov r14, offset 1b          # where a refused access goes on
    \access
    jmp 1b
3:
.endm

.globl _start
_start:
    lidt [idt_pointer]
    EACH_PLACE "mov [rbp], eax"
    EACH_PLACE "call fold"
    mov dx, [the_port]
    NEXT
    xor eax, r13d
    HEX 8
    CHAR NEWLINE
    hlt
fold:
    mov eax, [rbp]
    rol r13d, 5
    xor r13d, eax
    ret
refused:
    mov dx, [the_port]
    CHAR '!'
    CHAR SPACE
    pop rax
    HEX 2
    CHAR SPACE
    mov rax, cr2
    HEX 8
    CHAR NEWLINE
    jmp r14
    FAULT_IDT page_fault
PARAMETERS address=0x400000, size=0x40000
