# apic-ticker: starts the timer of the local APIC and watches it run down.
#
# Sets the divide configuration (+0x3E0) and the timer's vector (+0x320), then an initial count n / 2^22 + 1 (+0x380),
# which starts it. Then `count` times: waits for m >> (option's second byte) clocks (port 0xE0); prints the current
# count (+0x390), and the interrupts so far: "000001f4 02". The handler acknowledges by a write to EOI (+0xB0).
#
# Source: Intel SDM vol. 3, "APIC Timer", "Local Vector Table", "EOI Register".

.intel_syntax noprefix
.code64
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.set CLOCK, 0xE0
.set VECTOR, 0x40
.set CODE, 0x18

.globl _start
_start:
    lidt [idt_pointer]
    SEED
    mov r12, [the_address]
    mov dx, [the_port]
    mov ebp, [the_count]
    movzx eax, byte ptr [the_option]
    mov [r12 + 0x3E0], eax
    mov eax, [the_value]
    mov [r12 + 0x320], eax
    NEXT
    shr eax, 22
    inc eax
    mov [r12 + 0x380], eax
again:
    test ebp, ebp
    jz done
    NEXT
    mov cl, [the_option + 1]
    shr eax, cl
    sti
    nop                         # the shadow of STI is over before the time passes
    out CLOCK, eax
    nop
    nop
    cli
    mov eax, [r12 + 0x390]
    HEX 8
    CHAR SPACE
    mov eax, r13d
    HEX 2
    CHAR NEWLINE
    dec ebp
    jmp again
done:
    hlt

handler:
    inc r13d
    mov dword ptr [r12 + 0xB0], 0
    iretq

    .balign 16
idt:
    .skip VECTOR * 16
    .word handler, CODE, 0x8E00, 0
    .quad 0
idt_pointer:
    .word . - idt - 1
    .quad idt

PARAMETERS address=0xFEE00000, count=6, value=0x40, option=0x160B
