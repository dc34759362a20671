# real: does 16-bit code run, with segments, a stack and 32-bit registers?
#
# Source: Intel SDM vol. 3, "Real-Address Mode".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "probe.inc"

.globl _start
_start:
    mov ax, 0x2000
    mov es, ax
    mov dword ptr es:[0x10], 0x12345678
    mov ax, 0x2001
    mov ds, ax
    mov eax, [0]                # the same place: 0x2001 * 16 + 0
    xor bx, bx
    mov ds, bx
    call check
    FAIL

check:
    cmp eax, 0x12345678
    jne 1f
    PASS
1:  ret

PARAMETERS
