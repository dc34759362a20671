# sse: do vector instructions work in ring 0?
#
# The operating system must first say that it knows of them: CR0.EM clear, CR0.MP and CR4.OSFXSR set.
#
# Source: Intel SDM vol. 3, "System Programming for Instruction Set Extensions and Processor Extended States".

.intel_syntax noprefix
.code64
.include "params.inc"
.include "probe.inc"

.globl _start
_start:
    mov rax, cr0
    and eax, ~((1 << 2) | (1 << 3))     # EM: emulate; TS: trap the first use
    or eax, 1 << 1                      # MP
    mov cr0, rax
    mov rax, cr4
    or eax, 1 << 9                      # OSFXSR
    mov cr4, rax

    movdqu xmm0, [numbers]
    paddd xmm0, xmm0
    movdqu [numbers], xmm0
    cmp dword ptr [numbers], 2
    jne failed
    cmp dword ptr [numbers + 12], 8
    jne failed
    PASS
failed:
    FAIL

numbers: .long 1, 2, 3, 4

PARAMETERS
