# real-segments: in real mode an address is segment * 16 + offset, so one byte has many names.
#
# Prints four lines "segment:offset byte". With S = 0x1000 plus the top 12 bits of the stream's next number, and O the
# top 15 bits of the next, bit 4 set:
#   1. a byte of the stream, written to and read from S:O
#   2. the same byte read by another name, S+1:O-16
#   3. the next byte, written to S:(0xFFF0 + 0x20). The sum has 16 bits only, so it is S:0010 that prints it
#   4. what lies at FFFF:0010, just above 1 MiB: the 8086 had 20 address lines and found address 0 here
#
# Source: Intel SDM vol. 3, "Real-Address Mode", "Address Translation in Real-Address Mode".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.macro SHOW                     # "ES:BP byte"
    mov eax, es
    HEX 4
    CHAR ':'
    mov eax, ebp
    HEX 4
    CHAR SPACE
    mov al, es:[bp]
    HEX 2
    CHAR NEWLINE
.endm

.globl _start
_start:
    mov dx, [the_port]
    SEED
    NEXT
    shr eax, 20
    add ax, 0x1000
    mov es, ax                  # S
    NEXT
    shr eax, 17
    or ax, 0x10
    mov bp, ax                  # O
    NEXT_BYTE
    mov es:[bp], al
    SHOW

    mov ax, es
    inc ax
    mov es, ax
    sub bp, 16
    SHOW

    mov ax, es
    dec ax
    mov es, ax
    NEXT_BYTE
    mov bp, 0xFFF0
    mov si, 0x20
    mov es:[bp + si], al
    mov bp, 0x0010
    SHOW

    mov ax, 0xFFFF
    mov es, ax
    SHOW
    hlt

PARAMETERS
