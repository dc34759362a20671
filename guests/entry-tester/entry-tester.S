# entry-tester: puts one page-table entry after the other into its table and shows what an access through it finds.
#
# The list at `address` has `count` records of 16 bytes: an entry, and 0 to read or 1 to write. Each goes to `value`,
# where the entry for the page at the virtual address `option` is; then the guest touches the first 4 bytes of that
# page. A line: "+" and the number that is there now, or "-" and the error code of the page fault, 8 digits each, XOR
# the next number of the stream. A write writes its entry's lower half.
#
# Source: Intel SDM vol. 3, "Access Rights" and "Interrupt 14—Page-Fault Exception (#PF)".

.intel_syntax noprefix
.code64
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "faults.inc"

.globl _start
_start:
    lidt [idt_pointer]
    mov rax, cr0
    or eax, 1 << 16             # WP: a read-only page is read-only for ring 0 too
    mov cr0, rax
    SEED
    mov r12, [the_address]
    mov r13d, [the_count]
again:
    mov esp, HOST_STACK
    mov dx, [the_port]
    dec r13d
    js done
    mov rax, [r12]
    mov r14d, [r12 + 8]
    add r12, 16
    mov rsi, [the_value]
    mov [rsi], rax
    mov rdi, [the_option]
    invlpg [rdi]
    test r14d, r14d
    jz load
    mov [rdi], eax
load:
    mov ebp, [rdi]
    CHAR '+'
line:
    NEXT
    xor eax, ebp
    HEX 8
    CHAR NEWLINE
    jmp again
page_fault:
    pop rbp                     # the error code
    CHAR '-'
    jmp line
done:
    END_LINE
    hlt

    FAULT_IDT page_fault
PARAMETERS address=0x8000
