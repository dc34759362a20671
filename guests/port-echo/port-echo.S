# port-echo: answers each byte that it reads from the port.
#
# Reads a byte, XORs it with the next byte of the stream, writes it to the same port; and again, until the byte read
# is 0 (which is not answered) or `count` bytes have been answered. An IN leaves the guest with a question: the VMM
# must put the answer into the kvm_run page before it enters the guest again.
#
# Source: Intel SDM vol. 2, IN; KVM API, "5. The kvm_run structure", KVM_EXIT_IO.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"

.globl _start
_start:
    SEED
    mov dx, [the_port]
    mov ecx, [the_count]        # a limit: an empty port reads 0xFF, never 0, and would keep the guest here for ever
echo:
    test ecx, ecx
    jz done
    in al, dx
    test al, al
    jz done
    movzx esi, al
    NEXT_BYTE
    xor eax, esi
    out dx, al
    dec ecx
    jmp echo
done:
    hlt

PARAMETERS count=64
