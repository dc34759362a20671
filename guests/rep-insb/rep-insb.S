# rep-insb: fetches a whole string with a single instruction.
#
# One `rep insb` reads `count` bytes from the port into memory. Then the guest sends each of them back, XORed with
# the next byte of the stream, so that the host sees whether every byte arrived and in which order. KVM asks for
# several bytes in one exit; a VMM that fills in only the first leaves the others as they were.
#
# Source: Intel SDM vol. 2, INS and REP; KVM API, "5. The kvm_run structure", KVM_EXIT_IO with KVM_EXIT_IO_IN.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"

.set BUFFER, 0x4000             # up to 0xB000 bytes: above them lies the stack

.globl _start
_start:
    SEED
    cld                         # string instructions go up, not down
    mov dx, [the_port]
    mov cx, [the_count]
    mov di, BUFFER
    rep insb                    # CX bytes from port DX to ES:DI

    mov si, BUFFER
    mov cx, [the_count]
    jcxz done
send:
    NEXT_BYTE
    xor al, [si]
    inc si
    out dx, al
    loop send
done:
    hlt

PARAMETERS count=16
