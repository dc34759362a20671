# cpuid-reader: what CPUID tells this guest, which is what its VMM wants it to see.
#
# For the leaf `option` and the `count` - 1 leaves after it, with the subleaf `value` in ECX: writes EAX, EBX, ECX
# and EDX to the port, 4 bytes each. At the end it writes one more 4-byte number, the next of the stream.
#
# Source: Intel SDM vol. 2, CPUID; KVM API, KVM_SET_CPUID2.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"

.globl _start
_start:
    mov ebp, [the_option]
    mov edi, [the_count]
leaf:
    test edi, edi
    jz done
    mov eax, ebp
    mov ecx, [the_value]
    cpuid
    mov esi, edx                # OUT needs DX for the port
    mov dx, [the_port]
    out dx, eax
    mov eax, ebx
    out dx, eax
    mov eax, ecx
    out dx, eax
    mov eax, esi
    out dx, eax
    inc ebp
    dec edi
    jmp leaf
done:
    mov dx, [the_port]
    SEED
    NEXT
    out dx, eax
    hlt

PARAMETERS port=0x500, count=1  # not the serial port: its neighbours would get the upper bytes
