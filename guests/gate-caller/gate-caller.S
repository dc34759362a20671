# gate-caller: raises #UD in 64-bit mode, and shows how it came through the host's interrupt descriptor table.
#
# The IDT is at `address`. Its handler for vector 6, also the host's, leaves a number in EAX and RFLAGS in RCX and skips
# the UD2. The guest prints the number XORed with the stream, and the interrupt flag as the handler found it:
# "0badcafe 0". Before the UD2 interrupts are on, so an interrupt gate shows 0 and a trap gate 1.
#
# Source: Intel SDM vol. 3, "64-Bit Mode IDT", "Flag Usage By Exception- or Interrupt-Handler Procedure".

.intel_syntax noprefix
.code64
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.set GATES, 32
.set IF_BIT, 9

.globl _start
_start:
    mov rax, [the_address]
    mov [idt_pointer + 2], rax
    lidt [idt_pointer]
    SEED
    mov dx, [the_port]
    mov ebp, [the_count]
again:
    test ebp, ebp
    jz done
    xor eax, eax
    xor ecx, ecx
    sti
    nop                         # the instruction after STI is in its shadow
    ud2
    cli
    mov [flags], rcx
    mov esi, eax
    NEXT
    xor eax, esi
    HEX 8
    CHAR SPACE
    mov eax, [flags]
    shr eax, IF_BIT
    HEX 1
    CHAR NEWLINE
    dec ebp
    jmp again
done:
    hlt

flags:
    .quad 0
idt_pointer:
    .word 16 * GATES - 1
    .quad 0

PARAMETERS count=1, address=0x8000
