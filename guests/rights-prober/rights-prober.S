# rights-prober: tries accesses and prints, for each, the page fault's error code, or "ok".
#
# The list at `address` has `count` entries of 16 bytes: a virtual address, and how to touch it, a sum of 1 (write, else
# read), 2 (from ring 3, else ring 0), 4 (execute: the host has put a RET there). A line: "ok" or two digits, a space,
# the next number of the stream; the last line is one more. An access that faults is given up.
#
# Source: Intel SDM vol. 3, "Access Rights" and "Interrupt 14—Page-Fault Exception (#PF)".

.intel_syntax noprefix
.code64
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "ring3.inc"
.include "faults.inc"

.globl _start
_start:
    lgdt [ring3_gdt_pointer]
    mov eax, TSS
    ltr ax
    lidt [idt_pointer]
    SEED
    mov r12, [the_address]
    mov r13d, [the_count]
again:
    mov esp, HOST_STACK        # whatever a fault has left there is of no use
    mov dx, [the_port]
    dec r13d
    js done
    mov rbp, [r12]
    mov r14d, [r12 + 8]
    add r12, 16
    test r14d, 2
    jz touch
    ENTER_RING3 touch
touch:
    test r14d, 4
    jnz execute
    test r14d, 1
    jnz store
    mov eax, [rbp + 8]
    jmp survived
store:
    mov [rbp + 8], r14d
    jmp survived
execute:
    call rbp
survived:
    test r14d, 2
    jz allowed
    int3                        # ring 3 can't print: back to ring 0
allowed:
    CHAR 'o'
    CHAR 'k'
    jmp line
page_fault:
    pop rax                     # the error code
    HEX 2
line:
    CHAR SPACE
    END_LINE
    jmp again
done:
    END_LINE
    hlt

RING3_GDT
    .balign 16
idt:
    .skip 3 * 16
    GATE allowed, 3
    .skip 10 * 16
    GATE page_fault             # vector 14
idt_pointer:
    .word . - idt - 1
    .quad idt

PARAMETERS address=0x8000
