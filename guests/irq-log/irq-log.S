# irq-log: writes down which interrupt lines came, in the order in which they came.
#
# At each of `count` steps it writes the step's number to the test bench, port 0xE0, where the host moves interrupt
# lines. Each interrupt prints its line as a digit, and ends with the command in `option` (see pic.inc). Then the step
# ends with a byte of the stream: "3b 7f".
#
# Source: Intel 8259A datasheet, "Interrupt Sequence"; IBM PC/AT Technical Reference, "System Interrupts".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "pic.inc"
.include "steps.inc"

.globl _start
_start:
    START_CHIPS
    RUN_STEPS

handler:
    LINE
    call end_irq
    jmp leave

PARAMETERS count=4, value=0x7008, option=0x200000
