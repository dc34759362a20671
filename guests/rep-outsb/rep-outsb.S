# rep-outsb: sends a whole string with a single instruction.
#
# The guest first writes `count` letters into memory, each from the next byte of the stream: 'a' plus its top four
# bits. Then one `rep outsb` sends them all to the port. Linux makes an exit of each letter today; the API lets it
# put many into one, as it does for `rep insb`, so a VMM that never looks at `count` works only until somebody makes
# KVM faster.
#
# Source: Intel SDM vol. 2, OUTS and REP; KVM API, "5. The kvm_run structure", KVM_EXIT_IO: `count` and
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
    mov di, BUFFER
    mov cx, [the_count]
    jcxz send
write:
    NEXT_BYTE
    shr al, 4
    add al, 'a'
    stosb
    loop write

send:
    mov si, BUFFER
    mov cx, [the_count]
    mov dx, [the_port]
    rep outsb                   # CX bytes from DS:SI to port DX
    hlt

PARAMETERS count=16
