# irq-shared: two devices on one level-triggered line.
#
# The line is `address`. Port 0xE1 shows which of the devices A (bit 0) and B (bit 1) wants service; a bit written there
# serves that device. The handler serves one device and no more; if the other one wants too, the line is still high,
# and the next interrupt comes. One that finds no device prints "?". Steps as in irq-log: "AB 7f".
#
# Source: Intel 8259A datasheet, "Edge and Level Triggered Modes"; Intel 82371AB (PIIX4) datasheet, "ELCR1", "ELCR2".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "pic.inc"
.include "steps.inc"

.set DEVICES, 0xE1
.set ELCR, 0x4D0

.globl _start
_start:
    START_CHIPS
    mov cx, [the_address]
    mov ax, 1
    shl ax, cl
    mov dx, ELCR
    out dx, al
    inc dx
    mov al, ah
    out dx, al
    RUN_STEPS

handler:
    in al, DEVICES
    mov ah, 'A'
    and al, 3
    jz nobody
    mov bl, al
    and al, 1
    jnz serve                   # the lowest one first
    mov al, bl
    inc ah
serve:
    out DEVICES, al
    jmp tell
nobody:
    mov ah, '?'
tell:
    mov al, ah
    out dx, al
    call end_irq
    jmp leave

PARAMETERS count=4, value=0x7008, option=0x200000, address=5
