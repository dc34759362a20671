# paging32: does 32-bit paging work? Two levels, entries of 4 bytes, pages of 4 KiB.
#
# Maps the first 4 MiB where they are and, besides, 0x400000 to the page at 0x20000. A write through the one name
# must be seen through the other.
#
# Source: Intel SDM vol. 3, "32-Bit Paging".

.intel_syntax noprefix
.code32
.include "params.inc"
.include "probe.inc"

.set DIRECTORY, 0x10000
.set LOW, 0x11000               # the page table for the first 4 MiB
.set HIGH, 0x12000              # and the one for the next
.set PRESENT_WRITABLE, 3

.globl _start
_start:
    cld
    mov edi, DIRECTORY
    mov ecx, 3 * 1024
    xor eax, eax
    rep stosd
    mov dword ptr [DIRECTORY], LOW + PRESENT_WRITABLE
    mov dword ptr [DIRECTORY + 4], HIGH + PRESENT_WRITABLE
    mov dword ptr [HIGH], 0x20000 + PRESENT_WRITABLE
    mov edi, LOW
    mov eax, PRESENT_WRITABLE
identity:
    stosd
    add eax, 0x1000
    cmp eax, 0x400000
    jb identity

    mov eax, DIRECTORY
    mov cr3, eax
    mov eax, cr0
    or eax, 1 << 31             # PG
    mov cr0, eax
    mov dword ptr [0x400010], 0x12345678
    cmp dword ptr [0x20010], 0x12345678
    jne failed
    PASS
failed:
    FAIL

PARAMETERS
