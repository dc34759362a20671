# mmio: do accesses outside RAM leave the guest and come back with an answer?
#
# Nobody answers at 0xD0000000, so a read of any width finds all ones, also after a write.
#
# Source: KVM API, "5. The kvm_run structure", KVM_EXIT_MMIO.

.intel_syntax noprefix
.code32
.include "params.inc"
.include "probe.inc"

.set NOBODY, 0xD0000000

.globl _start
_start:
    mov ebx, NOBODY
    mov dword ptr [ebx], 0x12345678
    movzx eax, byte ptr [ebx]
    cmp eax, 0xFF
    jne failed
    movzx eax, word ptr [ebx + 2]
    cmp eax, 0xFFFF
    jne failed
    mov eax, [ebx + 4]
    cmp eax, -1
    jne failed
    PASS
failed:
    FAIL

PARAMETERS
