# rep-outsw: a string of 16-bit words with a single instruction.
#
# Writes the low halves of the next `count` numbers of the stream into memory and sends them with one `rep outsw`.
# Each item has two bytes, the low one first; the port stays the same for all, it is the address in memory that
# moves on.
#
# Source: Intel SDM vol. 2, OUTS and REP; KVM API, "5. The kvm_run structure", KVM_EXIT_IO: `size` and `count`.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"

.set BUFFER, 0x4000             # up to 0xB000 bytes: above them lies the stack

.globl _start
_start:
    SEED
    cld                         # string instructions go up, not down
    mov di, BUFFER
    mov cx, [the_count]
    jcxz send
write:
    NEXT
    stosw
    loop write

send:
    mov si, BUFFER
    mov cx, [the_count]
    mov dx, [the_port]
    rep outsw                   # CX words from DS:SI to port DX
    hlt

PARAMETERS port=0x500, count=8  # not the serial port: its neighbour would get the upper bytes
