# power-switch: boots, does a few things that stop nothing, and then one that does.
#
# The number of the boot is in the CMOS memory, which a reset leaves alone. Each boot prints it with a byte of the
# stream, and a dot after each of four near misses: the reset register without bit 2; a doubleword to its neighbour,
# the PCI address; S5 without SLP_EN; SLP_EN with another type: "01 5e....". Whoever comes back from the last thing
# prints "?".
#
# Source: Intel ICH9 datasheet, "RST_CNT: Reset Control Register"; ACPI 6.5, 4.8.3.2 "PM1 Control Grouping"; IBM PC/AT
# Technical Reference, "Keyboard Controller".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "uart.inc"
.include "power.inc"

.set BOOTS, 0x40                # a byte of the CMOS memory that is free

.globl _start
_start:
    SEED
    mov dx, [the_port]
    OUTB 0x70, BOOTS
    INB 0x71
    inc al
    OUTB 0x71
    movzx ebp, al
    mov cx, bp
1:  NEXT_BYTE                   # a byte of its own for each boot
    loop 1b
    xchg eax, ebp
    mov [boot], al
    HEX 2
    CHAR SPACE
    mov eax, ebp
    HEX 2
    OUTB 0xCF9, 2
    CHAR '.'
    push dx
    mov dx, 0xCF8
    mov eax, 0x80000600         # its second byte must not reach 0xCF9
    out dx, eax
    pop dx
    CHAR '.'
    OUTW PM1A, S5
    CHAR '.'
    OUTW PM1A, SLP_EN
    CHAR '.'
    CHAR NEWLINE
    mov si, [the_option]
    movzx eax, byte ptr [boot]
    cmp eax, [the_count]
    jbe 2f
    mov si, [the_value]
2:  add si, si
    jmp [ways + si]

chipset:  OUTB 0xCF9, 6
    jmp alive
s5: OUTW PM1A, SLP_EN + S5
    jmp alive
keyboard: OUTB 0x64, 0xFE
alive:
    CHAR '?'
halt:
    hlt
sleep:
    sti
    hlt
fault:
    TRIPLE_FAULT

ways: .word chipset, s5, keyboard, fault, halt, sleep
boot: .byte 0

PARAMETERS port=0xE9, count=1, value=1, option=0
