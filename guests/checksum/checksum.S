# checksum: what the guest sees in a range of its memory, in 16 digits.
#
# Prints the checksum of the bytes in [address, address + size), keyed by the nonce, as b then a (see checksum.inc),
# and a newline. Protected mode, so that it reaches any address below 4 GiB. If the host put its bytes into the slot
# that it meant, the digits are the ones it computes itself.
#
# Source: Intel SDM vol. 3, "Protected-Mode Memory Management"; KVM API, KVM_SET_USER_MEMORY_REGION.

.intel_syntax noprefix
.code32
.include "params.inc"
.include "console.inc"
.include "checksum.inc"

.globl _start
_start:
    mov esi, [the_address]
    mov ebp, [the_size]
    call checksum
    mov dx, [the_port]
    HEX 8
    mov eax, ebx
    HEX 8
    CHAR NEWLINE
    hlt

PARAMETERS address=0x20000, size=0x100
