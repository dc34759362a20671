# spinner: a guest that never ends.
#
# Prints the first byte of the stream and then jumps to itself for ever: no exit, nothing for the VMM to wait for.
# Only a signal or a deadline brings the vCPU back.
#
# Source: KVM API, KVM_RUN ("EINTR: an unmasked signal is pending") and `immediate_exit` in "5. The kvm_run
# structure".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"

.globl _start
_start:
    SEED
    NEXT_BYTE
    mov dx, [the_port]
    out dx, al
for_ever:
    jmp for_ever

PARAMETERS
