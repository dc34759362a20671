# x87: does the floating-point unit work in ring 0?
#
# Source: Intel SDM vol. 1, "Programming with the x87 FPU"; vol. 3, "Initializing the x87 FPU".

.intel_syntax noprefix
.code32
.include "params.inc"
.include "probe.inc"

.globl _start
_start:
    mov eax, cr0
    and eax, ~((1 << 2) | (1 << 3))     # EM: emulate; TS: trap the first use
    mov cr0, eax
    fninit
    fld1
    fadd st, st                         # 1 + 1
    fistp dword ptr [result]
    fwait
    cmp dword ptr [result], 2
    jne failed
    PASS
failed:
    FAIL

result: .long 0

PARAMETERS
