# checksum-long: what a 64-bit guest sees in a range of its memory, through whatever page tables it was given.
#
# The guest checksum, assembled for 64-bit code: every byte goes through the host's page tables, so a wrong entry gives
# wrong digits, or a page fault that nobody handles.
#
# Source: Intel SDM vol. 3, "4-Level Paging and 5-Level Paging"; KVM API, KVM_SET_SREGS.

.intel_syntax noprefix
.code64
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
