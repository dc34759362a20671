# hlt: does HLT come to the VMM, and does the guest go on behind it when it is run again?
#
# The first run ends with KVM_EXIT_HLT, the second with 0x10 on the debug-exit port. With an interrupt controller in
# the kernel HLT never comes out: the vCPU sleeps inside KVM_RUN.
#
# Source: KVM API, "5. The kvm_run structure", KVM_EXIT_HLT.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "probe.inc"

.globl _start
_start:
    hlt
    PASS

PARAMETERS
