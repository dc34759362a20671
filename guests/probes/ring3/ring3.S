# ring3: does 64-bit user code run, and does it come back to ring 0 through the IDT?
#
# IRETQ goes down; INT3, through a gate that ring 3 may use, comes up. The handler looks at the saved CS: did it
# really come from ring 3?
#
# Source: Intel SDM vol. 3, "Interrupt and Exception Handling in 64-bit Mode"; vol. 2, IRET and INT3.

.intel_syntax noprefix
.code64
.include "params.inc"
.include "probe.inc"
.include "tables.inc"
.include "ring3.inc"

.globl _start
_start:
    PREPARE_RING3
    lidt [idt_pointer]
    ENTER_RING3 user

user:
    mov eax, 0x12345678
    int3
    jmp user                    # never reached

breakpoint:
    cmp eax, 0x12345678
    jne failed
    cmp dword ptr [rsp + 8], USER_CODE
    jne failed
    PASS
failed:
    FAIL

RING3_GDT
    .balign 16
idt:
    .skip 3 * 16
    GATE breakpoint, 3          # vector 3
idt_pointer:
    .word . - idt - 1
    .quad idt

PARAMETERS
