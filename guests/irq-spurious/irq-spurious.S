# irq-spurious: a careful driver, which tells a real IRQ7 or IRQ15 from one that nobody sent.
#
# As irq-log, but the handler of 7 and 15 looks whether its line is in service. If not, it prints "~" before the digit
# and ends nothing; behind a spurious 15 the master did see a request, on line 2, so that one is ended.
#
# Source: Intel 8259A datasheet, "Interrupt Sequence" (no request left at the time of INTA), "Reading the 8259A Status".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "pic.inc"
.include "steps.inc"

.set READ_ISR, 0x0B             # OCW3
.set END, 0x20                  # OCW2

.globl _start
_start:
    START_CHIPS
    RUN_STEPS

handler:
    mov al, READ_ISR
    cmp bp, 7
    je of_master
    cmp bp, 15
    jne real
    out SLAVE, al
    in al, SLAVE
    test al, 0x80
    jnz real
    mov al, END
    out MASTER, al
    jmp spurious
of_master:
    out MASTER, al
    in al, MASTER
    test al, 0x80
    jnz real
spurious:
    CHAR '~'
    LINE
    jmp leave
real:
    LINE
    call end_irq
    jmp leave

PARAMETERS count=4, value=0x7008, option=0x200000
