# steal-reader: works, and asks how much of the time was not its own.
#
# `count` times: works for n / 2^22 ticks (port 0xE0), then reads the 64 bits of `steal` in the page at `address`:
# again while its version (at +8) is odd, and again if it has changed behind them. Before each field it writes to port
# 0xE4, so that the host can change the page under it. Prints 16 digits and a byte of the stream: "00000000000001f4 7f".
#
# Source: Documentation/virt/kvm/x86/msr.rst, MSR_KVM_STEAL_TIME.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.set CLOCK, 0xE0
.set PAUSE, 0xE4

.globl _start
_start:
    SEED
    cmp dword ptr [the_count], 0
    je done
again:
    NEXT
    shr eax, 22
    out CLOCK, eax
read:
    mov di, [the_address]
    mov ecx, [di + 8]           # version
    test cl, 1
    out PAUSE, al
    jnz read
    mov ebp, [di]
    out PAUSE, al
    mov esi, [di + 4]
    out PAUSE, al
    cmp ecx, [di + 8]
    jne read
    mov dx, [the_port]
    mov eax, esi
    HEX 8
    mov eax, ebp
    HEX 8
    CHAR SPACE
    NEXT_BYTE
    HEX 2
    CHAR NEWLINE
    dec dword ptr [the_count]
    jnz again
done:
    hlt

PARAMETERS address=0x9000, count=4
