# rom-writer: tries to write to a ROM and shows what came of it.
#
# Writes `size` bytes of the stream to `address` and up. Then reads them all back and prints a line for each: the
# byte that it wrote, and the one it found: "3f > a1". In RAM the two are the same. In a read-only memory slot the
# write does not change memory: it leaves the guest as KVM_EXIT_MMIO, and the VMM may ignore it, as a ROM does.
#
# Source: KVM API, KVM_SET_USER_MEMORY_REGION, "KVM_MEM_READONLY".

.intel_syntax noprefix
.code32
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.globl _start
_start:
    SEED
    mov esi, [the_address]
    mov ebp, [the_size]
    test ebp, ebp
    jz done
write:
    NEXT_BYTE
    mov [esi], al
    inc esi
    dec ebp
    jnz write

    SEED                        # the same bytes again
    mov dx, [the_port]
    mov esi, [the_address]
    mov ebp, [the_size]
show:
    NEXT_BYTE
    HEX 2
    CHAR SPACE
    CHAR '>'
    CHAR SPACE
    mov al, [esi]
    HEX 2
    CHAR NEWLINE
    inc esi
    dec ebp
    jnz show
done:
    hlt

PARAMETERS address=0xF0000, size=8
