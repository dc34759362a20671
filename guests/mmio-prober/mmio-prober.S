# mmio-prober: reads and writes addresses behind which there is no RAM, in every width.
#
# For 1, 2, 4 and 8 bytes, at `address` + 0, 0x10, 0x20, 0x30: writes the low bytes of the next two numbers of the
# stream (the first is the low half), reads back, and prints what it read as 16 hexadecimal digits. Then 8 bytes at
# `address` + 0xFFC, across a page boundary: two pages, so KVM makes two exits of 4 bytes each. The last line is the
# next number of the stream, 8 digits.
#
# Source: KVM API, "5. The kvm_run structure", KVM_EXIT_MMIO; Intel SDM vol. 1, "Alignment of Words".

.intel_syntax noprefix
.code64
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.macro NEXT_PAIR                # RAX = the next two numbers
    NEXT
    mov esi, eax
    NEXT
    shl rax, 32
    or rax, rsi
.endm

.macro SHOW                     # RSI, 16 digits
    mov rax, rsi
    shr rax, 32
    HEX 8
    mov eax, esi
    HEX 8
    CHAR NEWLINE
.endm

.globl _start
_start:
    SEED
    mov dx, [the_port]
    mov rbp, [the_address]

    NEXT_PAIR
    mov [rbp], al
    movzx esi, byte ptr [rbp]
    SHOW
    NEXT_PAIR
    mov [rbp + 0x10], ax
    movzx esi, word ptr [rbp + 0x10]
    SHOW
    NEXT_PAIR
    mov [rbp + 0x20], eax
    mov esi, [rbp + 0x20]       # the upper half of RSI becomes 0
    SHOW
    NEXT_PAIR
    mov [rbp + 0x30], rax
    mov rsi, [rbp + 0x30]
    SHOW
    NEXT_PAIR
    mov [rbp + 0xFFC], rax
    mov rsi, [rbp + 0xFFC]
    SHOW

    NEXT
    HEX 8
    CHAR NEWLINE
    hlt

PARAMETERS address=0xD0000000
