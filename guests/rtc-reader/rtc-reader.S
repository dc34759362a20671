# rtc-reader: reads the clock of a PC, register by register, the seconds first.
#
# `count` times: the test bench sets the clock; then the guest waits, if it is a careful one, until bit 7 of register A
# (UIP) is 0, which promises 244 µs without a change. It prints what is in the registers, in whatever format register B
# makes it: "20:26/11/24 11:59:59 5e", and a byte of the stream.
#
# Source: Motorola MC146818 datasheet, "Update Cycle", "Register A", "Register B".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "uart.inc"

.set INDEX, 0x70
.set DATA, 0x71
.macro CHOOSE                   # AL is the number of a register
    mov ah, [the_option]
    and ah, 2
    shl ah, 6
    or al, ah
    out INDEX, al
.endm

.globl _start
_start:
    SEED
    mov dx, [the_port]
    xor ebp, ebp
    mov al, 0x0B
    CHOOSE
    mov al, [the_value]
    out DATA, al
reading:
    cmp ebp, [the_count]
    jae done
    mov ax, bp
    out BENCH, al
    test byte ptr [the_option], 1
    jz 2f
    mov cx, 5000                # UIP lasts 2.2 ms at the most
    mov al, 0x0A
    CHOOSE
1:  in al, DATA
    test al, 0x80
    loopnz 1b
2:  xor si, si
3:  mov al, [registers + si]
    CHOOSE
    in al, DATA
    mov [values + si], al
    inc si
    cmp si, 7
    jb 3b
    mov bp, 6                   # the century comes last, and is printed first
4:  mov al, [values + bp]
    HEX 2
    mov al, [marks + bp]
    out dx, al
    dec bp
    jns 4b
    NEXT_BYTE
    HEX 2
    CHAR NEWLINE
    inc dword ptr [number]
    mov ebp, [number]
    jmp reading
done:
    hlt

registers: .byte 0, 2, 4, 7, 8, 9, 0x32
marks:     .ascii " :: //:"     # behind seconds, minutes, hours, day, month, year, century
values:    .skip 7
           .byte 0
number:    .long 0

PARAMETERS port=0xE9, count=2, value=2, option=1
