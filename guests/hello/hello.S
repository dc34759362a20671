# hello: says hello and shows its nonce, one byte to each OUT.
#
# Real mode, where a machine wakes up. Every `out dx, al` leaves the guest: KVM stops the vCPU and hands the byte to
# the VMM (KVM_EXIT_IO), which decides what a write to that port means. Prints "Hello, ", the nonce as 16
# hexadecimal digits and a newline.
#
# Source: Intel SDM vol. 2, OUT and HLT; vol. 1, "I/O Port Addressing".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "console.inc"

.globl _start
_start:
    mov dx, [the_port]
    TEXT greeting
    mov eax, [the_nonce + 4]    # the high half first, as one writes numbers
    HEX 8
    mov eax, [the_nonce]
    HEX 8
    CHAR NEWLINE
    hlt                         # KVM_EXIT_HLT: the guest has nothing more to do

greeting:
    .asciz "Hello, "

PARAMETERS
