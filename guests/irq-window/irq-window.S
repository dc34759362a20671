# irq-window: keeps interrupts off while it counts, and finds out when a request got through.
#
# In each of `count` rounds, interrupts off, it tells the bench its number, and the host raises a line. It counts on for
# a while, then says STI and spins, without an exit, until the interrupt has come. A line has "." if it came then, "!"
# if it came while interrupts were off, "-" if it never came; and a byte of the stream: ". 7f".
#
# Source: Intel SDM vol. 3, "Masking Maskable Hardware Interrupts"; KVM API, "5. The kvm_run structure",
# request_interrupt_window.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "pic.inc"

.set PATIENCE, 40000            # turns; the interrupt is a matter of some hundreds at most

.globl _start
_start:
    START_CHIPS
    SEED
    xor bp, bp
again:
    cmp bp, [the_count]
    jae done
    mov byte ptr [seen], '-'
    mov byte ptr [came], '!'
    NEXT
    shr eax, 26
    inc ax
    mov cx, ax
    mov ax, bp
    out BENCH, al
1:  loop 1b
    mov byte ptr [came], '.'
    mov ecx, PATIENCE
    sti
2:  cmp byte ptr [seen], '-'
    jne 3f
    dec ecx
    jnz 2b
3:  cli
    mov dx, [the_port]
    mov al, [seen]
    out dx, al
    CHAR SPACE
    NEXT_BYTE
    HEX 2
    CHAR NEWLINE
    inc bp
    jmp again
done:
    THE_END

handler:
    mov al, [came]
    mov [seen], al
    call end_irq
    jmp leave

seen:  .byte 0
came:  .byte 0

PARAMETERS count=4, value=0x7008, option=0x200000
