# out-loop: the same work with exits and without.
#
# `count` times: computes the next byte of the stream and, where `option` is not 0, writes it to port `value`. At the
# end it prints the last number of the stream, 8 digits: the result is the same, and only the time differs.
#
# Source: KVM API, "5. The kvm_run structure", KVM_EXIT_IO; Intel SDM vol. 3, "Instructions That Cause VM Exits".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.globl _start
_start:
    SEED
    mov ecx, [the_count]
    mov dx, [the_value]
    cmp dword ptr [the_option], 0
    jne loud

quiet:
    sub ecx, 1
    jb done
    NEXT_BYTE
    nop                         # in place of the OUT: both loops have as many instructions
    jmp quiet

loud:
    sub ecx, 1
    jb done
    NEXT_BYTE
    out dx, al
    jmp loud

done:
    mov dx, [the_port]
    mov eax, ebx
    HEX 8
    CHAR NEWLINE
    hlt

PARAMETERS count=16, value=0x80, option=0
