# irq-nest: handlers that let themselves be interrupted.
#
# As irq-log, but a handler opens a bracket, tells the bench so (0x80 + its line), and switches interrupts on; what
# comes meanwhile shows inside. Then it closes the bracket and ends its interrupt: "(5(33)5) 7f".
#
# Source: Intel 8259A datasheet, "Fully Nested Mode"; Intel SDM vol. 2, STI.

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
    CHAR '('
    LINE
    mov ax, bp
    or al, 0x80
    out BENCH, al
    sti
    TAKE 8
    cli
    LINE
    CHAR ')'
    call end_irq
    jmp leave

PARAMETERS count=4, value=0x7008, option=0x200000
