# busy-worker: never sleeps; its timer interrupts it where interrupts are on, and nowhere else.
#
# `count` rounds: with interrupts off `size` pieces of work, each of n / 2^22 ticks (port 0xE0); then interrupts on,
# for a loop without any exit that ends at an interrupt, or soon. The handler notes the time and counts. At the end of
# a round it prints the number of interrupts so far and the time of the last: "02 00000abc". One in the wrong place
# prints "!".
#
# Source: Intel SDM vol. 3, "Masking Maskable Hardware Interrupts"; SDM vol. 2, STI.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.set CLOCK, 0xE0
.set PATIENCE, 10000

.globl _start
_start:
    SEED
    mov si, [the_value]
    shl si, 2
    mov word ptr [si], offset handler
    mov word ptr [si + 2], 0
    mov ebp, [the_count]
    mov dx, [the_port]
again:
    test ebp, ebp
    jz done
    mov byte ptr [busy], 1
    mov cx, [the_size]
1:  NEXT
    shr eax, 22
    out CLOCK, eax
    loop 1b
    mov byte ptr [busy], 0
    sti
    mov ecx, PATIENCE
2:  cmp byte ptr [fresh], 0     # no exit here: who wants to interrupt must have asked for the window
    jne 3f
    dec ecx
    jnz 2b
3:  mov byte ptr [fresh], 0
    cli
    mov al, [came]
    HEX 2
    CHAR SPACE
    mov eax, [when]
    HEX 8
    CHAR NEWLINE
    dec ebp
    jmp again
done:
    hlt

handler:
    push eax
    cmp byte ptr [busy], 0
    je 1f
    CHAR '!'
1:  inc byte ptr [came]
    mov byte ptr [fresh], 1
    in eax, CLOCK
    mov [when], eax
    pop eax
    iret

busy:
    .byte 0
fresh:
    .byte 0
came:
    .byte 0
when:
    .long 0

PARAMETERS count=4, size=3, value=8
