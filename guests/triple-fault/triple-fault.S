# triple-fault: a machine that can't even report its own error.
#
# Prints the first byte of the stream, so that the host knows that it came this far. Then it takes away its
# interrupt descriptor table (limit 0: not one gate) and executes an undefined instruction. #UD finds no gate, so
# does the #GP which that raises, so does the double fault: the processor gives up. KVM reports KVM_EXIT_SHUTDOWN; a
# PC would reset.
#
# Source: Intel SDM vol. 3, "Interrupt 8: Double Fault Exception (#DF)"; vol. 2, UD and LIDT.

.intel_syntax noprefix
.code32
.include "params.inc"
.include "stream.inc"

.globl _start
_start:
    SEED
    NEXT_BYTE
    mov dx, [the_port]
    out dx, al
    lidt [no_table]
    ud2
    hlt                         # never reached

no_table:
    .word 0                     # the limit: the table's length in bytes, less one
    .long 0                     # the base

PARAMETERS
