# mixer: feeds a device through memory and through a port, and asks it for the sum.
#
# The device keeps one number: total = total * 31 + what is written. `count` times the guest writes `size` numbers of
# the stream, in turn to `address` and to port `value`, reads the total at `address` + 4, and prints it, 8 digits. Then
# it writes `size` numbers more, which it never asks for, and halts. A VMM may let writes wait, but only until somebody
# can see it: a total that comes too early is wrong, and so is a write that is forgotten at the end.
#
# Source: KVM API 4.116, KVM_REGISTER_COALESCED_MMIO.

.intel_syntax noprefix
.code32
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.globl _start
_start:
    SEED
    cld
    mov ebp, [the_count]
again:
    call feed
    sub ebp, 1
    jb done
    mov esi, [the_address]
    mov eax, [esi + 4]
    mov dx, [the_port]
    HEX 8
    CHAR NEWLINE
    jmp again
done:
    hlt

feed:
    mov esi, [the_address]
    mov dx, [the_value]
    mov ecx, [the_size]
1:  sub ecx, 1
    jb 3f
    NEXT
    test cl, 1
    jnz 2f
    mov [esi], eax
    jmp 1b
2:  out dx, eax
    jmp 1b
3:  ret

PARAMETERS count=3, size=5, address=0xD0000000, value=0x600
