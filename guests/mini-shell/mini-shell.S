# mini-shell: a shell. It sleeps until a byte comes, collects a line, and does what it says.
#
# Source: PC16550D datasheet, "FIFO Interrupt Mode Operation"; Motorola MC146818 datasheet, "Register A".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "console.inc"
.include "pic.inc"
.include "uart.inc"
.include "power.inc"
.include "shell.inc"

.macro CMOS register            # AL = the register
    OUTB 0x70, \register
    INB 0x71
.endm

.globl _start
_start:
    START_CHIPS
    mov dx, [the_port]
    START_UART
    TEXT hello
    mov eax, [the_nonce + 4]
    HEX 8
    mov eax, [the_nonce]
    HEX 8
    CHAR NEWLINE
prompt:
    TEXT ready
    call read_line
    jmp obey

help: TEXT names
    jmp prompt
echo: movzx esi, si
    call put_text
    jmp newline
time: CMOS 4
    HEX 2
    CHAR ':'
    CMOS 2
    HEX 2
    CHAR ':'
    CMOS 0
    HEX 2
    jmp newline
peek: call hex_number          # four bytes from there
    mov si, cx
    and si, 0x0F
    shr ecx, 4
    mov es, cx
    mov eax, es:[si]
    HEX 8
    jmp newline
reset: OUTB 0x64, 0xFE
off:  OUTW PM1A, SLP_EN + S5
crash:
    TRIPLE_FAULT
unknown:
    cmp byte ptr [line], 0
    je prompt
    CHAR '?'
newline:
    CHAR NEWLINE
    jmp prompt

hello: .asciz "mini-shell "
ready: .asciz "> "
commands:
    .irp name, help, echo, time, peek, reset, off, crash
    .asciz "\name"
    .word \name
    .endr
    .byte 0
names: .asciz "help echo time peek reset off crash\n"

PARAMETERS value=0x7008, option=0x20FFEF
