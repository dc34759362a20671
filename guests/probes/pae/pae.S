# pae: does PAE paging work outside long mode? Three levels, entries of 8 bytes, pages of 2 MiB.
#
# Maps the first 2 MiB where they are and, besides, the next 2 MiB to the same memory. A write through the one name
# must be seen through the other.
#
# Source: Intel SDM vol. 3, "PAE Paging". The four entries of the top table are read when CR3 is loaded.

.intel_syntax noprefix
.code32
.include "params.inc"
.include "probe.inc"

.set TOP, 0x10000
.set DIRECTORY, 0x11000
.set PRESENT, 1                 # the only flag that an entry of the top table may have
.set PRESENT_WRITABLE_LARGE, 0x83

.globl _start
_start:
    cld
    mov edi, TOP
    mov ecx, 2 * 1024
    xor eax, eax
    rep stosd
    mov dword ptr [TOP], DIRECTORY + PRESENT
    mov dword ptr [DIRECTORY], 0 + PRESENT_WRITABLE_LARGE
    mov dword ptr [DIRECTORY + 8], 0 + PRESENT_WRITABLE_LARGE

    mov eax, cr4
    or eax, 1 << 5              # PAE
    mov cr4, eax
    mov eax, TOP
    mov cr3, eax
    mov eax, cr0
    or eax, 1 << 31             # PG
    mov cr0, eax
    mov dword ptr [0x220010], 0x12345678
    cmp dword ptr [0x20010], 0x12345678
    jne failed
    PASS
failed:
    FAIL

PARAMETERS
