# string-echo: fetches a string of items with one instruction, and sends it back with another.
#
# One `rep ins` reads `count` items of `width` bytes from the port into memory. The guest XORs each byte with the next
# byte of the stream. One `rep outs` sends them all to the port 8 above. Each instruction stays at its port: what moves
# is the address in memory.
#
# Source: Intel SDM vol. 2, INS, OUTS and REP; KVM API, "5. The kvm_run structure", KVM_EXIT_IO: `size`, `count` and
# `data_offset`.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"

.set BUFFER, 0x4000             # up to 0xB000 bytes: above them lies the stack

.globl _start
_start:
    SEED
    cld                         # string instructions go up, not down
    mov bp, [the_width]
    mov dx, [the_port]
    mov cx, [the_count]
    mov di, BUFFER
    cmp bp, 2
    jb in8
    je in16
    rep insd
    jmp key
in8:
    rep insb
    jmp key
in16:
    rep insw

key:
    mov si, BUFFER
next:
    cmp si, di                  # DI is behind the last byte
    je send
    NEXT_BYTE
    xor [si], al
    inc si
    jmp next

send:
    mov si, BUFFER
    mov cx, [the_count]
    add dx, 8
    cmp bp, 2
    jb out8
    je out16
    rep outsd
    hlt
out8:
    rep outsb
    hlt
out16:
    rep outsw
    hlt

PARAMETERS port=0x500, width=1, count=16
