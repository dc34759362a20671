# etch: draws on the screen where the keys W, A, S and D steer it, and sleeps in between.
#
# The text screen of a PC, 80 by 25 characters of two bytes each, is at 0xB8000. Each key moves the pen by one place,
# around the edges, and leaves a letter of the stream there, which goes to the port too. Escape ends the guest.
#
# Source: IBM PC/AT Technical Reference, "Keyboard" (scan codes, ports 0x60 and 0x64), "System Interrupts".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "pic.inc"

.set KEYBOARD, 0x60
.set STATUS, 0x64
.set ESCAPE, 0x01
.set SIZE, 80 * 25

.globl _start
_start:
    START_CHIPS
    SEED
    mov dx, [the_port]
    NEXT_BYTE                   # a sign that it is ready
    HEX 2
    CHAR NEWLINE
    mov [state], ebx
    mov ax, 0xB800
    mov es, ax
sleep:
    sti
    hlt                         # in the shadow of STI: no key can slip in between
    cli
    cmp byte ptr [key], ESCAPE
    jne sleep
    hlt                         # with interrupts off: for good

handler:
    in al, STATUS
    test al, 1
    jz done
    in al, KEYBOARD
    mov [key], al
    mov di, offset keys
    mov cx, 4
1:  cmp al, [di]
    je move
    add di, 3
    loop 1b
    jmp done                    # another key, or one that was let go
move:
    mov ax, [pen]
    add ax, [di + 1]
    cmp ax, SIZE
    jb 2f
    sub ax, SIZE
2:  mov [pen], ax
    mov ebx, [state]
    mov di, ax
    add di, ax
    NEXT_BYTE
    mov [state], ebx
    shr al, 4
    add al, 'a'
    mov ah, 7                   # light grey on black
    mov es:[di], ax
    out dx, al
done:
    call end_irq
    jmp leave

keys:                           # a scan code and a distance each: up, left, down, right
    .byte 0x11; .word SIZE - 80; .byte 0x1E; .word SIZE - 1; .byte 0x1F; .word 80; .byte 0x20; .word 1
pen:   .word 12 * 80 + 40
key:   .byte 0
state: .long 0

PARAMETERS value=0x7008, option=0x20FFFD
