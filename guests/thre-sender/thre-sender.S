# thre-sender: sends letters by interrupts. Each says that the transmitter is empty, and is answered by one letter.
#
# First it enables the interrupt with the gate closed (OUT2 is 0) and sends a star: nothing may come. Then it disables
# the interrupt, opens the gate, and enables it: enabling alone must bring the first interrupt, each letter the next
# one. The handler that finds no letter left disables the interrupt. Prints how many interrupts came while the gate was
# closed, how many in all, and a byte of the stream: "00 0d 5e".
#
# Source: PC16550D datasheet (National Semiconductor), "Interrupt Enable Register", "FIFO Interrupt Mode Operation"; IBM
# PC/AT Technical Reference, "Serial/Parallel Adapter" (OUT2).

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "pic.inc"
.include "uart.inc"

.globl _start
_start:
    START_CHIPS
    SEED
    mov [state], ebx
    OUTB MCR, 0
    OUTB IER, 2                 # ETBEI: the empty transmitter
    OUTB RBR, '*'
    sti
    TAKE 8
    cli
    mov dx, [the_port]
    mov al, [came]
    HEX 2
    CHAR SPACE
    INB IIR                     # the star's interrupt is taken back: what comes now is new
    OUTB IER, 0
    OUTB MCR, 8                 # OUT2
    mov eax, [the_count]
    mov [left], eax
    OUTB IER, 2
1:  sti
    hlt
    cli
    cmp byte ptr [ready], 0
    je 1b
    mov al, [came]
    HEX 2
    CHAR SPACE
    mov ebx, [state]
    NEXT_BYTE
    HEX 2
    CHAR NEWLINE
    hlt

handler:
    inc byte ptr [came]
    INB IIR                     # this takes the interrupt back
    cmp dword ptr [left], 0
    je last
    dec dword ptr [left]
    mov ebx, [state]
    NEXT_BYTE
    mov [state], ebx
    shr al, 4
    add al, 'a'
    OUTB RBR                    # and this makes the next one
    jmp 1f
last: OUTB IER, 0
    mov byte ptr [ready], 1
1:  call end_irq
    jmp leave

left:  .long 0
state: .long 0
came:  .byte 0
ready: .byte 0

PARAMETERS port=0xE9, count=12, value=0x7008, option=0x20FFEF
