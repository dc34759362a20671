# iir-logger: asks IIR for the most urgent matter, serves it, and asks again until IIR says that there is none.
#
# At each of `count` steps the test bench lets things happen; then the guest sends a letter, and asks. It serves line
# status by reading LSR (printed as "06=63"), data by reading RBR ("04=41", "0c=42"), the empty transmitter by nothing
# ("02": reading IIR is enough), the modem by reading MSR ("00=b1"). "01" ends the step. With the FIFOs on, bits 6 and
# 7 are set, so 04 is c4. Each line begins with the letter that was sent.
#
# Source: PC16550D datasheet (National Semiconductor), "Interrupt Control Functions".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "uart.inc"

.globl _start
_start:
    SEED
    mov dx, [the_port]
    xor ebp, ebp
    OUTB IIR, [the_option]
    OUTB MCR, [the_option + 1]
    OUTB IER, [the_value]
step:
    cmp ebp, [the_count]
    jae done
    mov ax, bp
    out BENCH, al
    NEXT_BYTE
    shr al, 4
    add al, 'a'
    OUTB RBR
    out dx, al
    CHAR SPACE
    mov byte ptr [left], END_OF_TIMES
ask:
    INB IIR
    mov [source], al
    HEX 2
    mov al, [source]
    test al, 1
    jnz 2f
    and ax, 0x0E
    cmp al, 2
    je 1f                       # the transmitter
    mov di, LSR
    cmp al, 6
    je serve
    mov di, MSR
    test al, al
    jz serve
    mov di, RBR
serve:
    CHAR '='
    INB di
    HEX 2
1:  CHAR SPACE
    dec byte ptr [left]
    jnz ask
2:  CHAR NEWLINE
    inc bp
    jmp step
done:
    hlt

source: .byte 0
left:   .byte 0

PARAMETERS port=0xE9, count=2, value=3, option=0x801
