# debug-exit: ends the machine by a write to a port, with a number.
#
# Writes the next byte of the stream, its top bit cleared, to the port. A debug-exit device, as QEMU has one at
# 0xF4, stops the machine; the VMM's own exit status is then (value << 1) | 1, odd so that it is never mistaken for
# "all went well".
#
# Source: QEMU, hw/misc/debugexit.c (isa-debug-exit).

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"

.globl _start
_start:
    SEED
    NEXT_BYTE
    and al, 0x7F                # the status must fit into eight bits
    mov dx, [the_port]
    out dx, al
    hlt                         # for a VMM that has no such device

PARAMETERS port=0xF4
