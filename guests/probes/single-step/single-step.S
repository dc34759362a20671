# single-step: a straight line for a debugger. With KVM_GUESTDBG_SINGLESTEP each of the eight NOPs should be one
# exit.
#
# It passes without a debugger too: who asks about single steps must count the exits (KVM_EXIT_DEBUG), and where
# they stopped.
#
# Source: KVM API, KVM_SET_GUEST_DEBUG.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "probe.inc"

.globl _start
_start:
    .rept 8
    nop
    .endr
    PASS

PARAMETERS
