# sti-hlt: waits for work as every kernel does, by STI and HLT in one breath.
#
# In each of `count` rounds, interrupts off, it tells the bench its number, and the host raises a line: work has come
# after the guest had looked. Then STI, HLT. A line has the IP that the handler finds on its stack, counted from the
# HLT, and a byte of the stream: "1 7f". HLT has one byte, so 1 is right: the guest fell asleep and was woken. 0 would
# mean that the interrupt came before the HLT, and this guest would sleep for ever.
#
# Source: Intel SDM vol. 2, STI (interrupts stay off until the instruction after it has ended), HLT.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "pic.inc"

.set SAVED_IP, 32 + 2           # above PUSHAD and the line's number

.globl _start
_start:
    START_CHIPS
    SEED
    xor bp, bp
again:
    cmp bp, [the_count]
    jae done
    mov dx, [the_port]
    mov ax, bp
    out BENCH, al
    sti
asleep:
    hlt
    cli
    CHAR SPACE
    NEXT_BYTE
    HEX 2
    CHAR NEWLINE
    inc bp
    jmp again
done:
    THE_END

handler:
    mov bx, sp
    mov ax, ss:[bx + SAVED_IP]
    sub ax, offset asleep
    HEX 1
    call end_irq
    jmp leave

PARAMETERS count=4, value=0x7008, option=0x200000
