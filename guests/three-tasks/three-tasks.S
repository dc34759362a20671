# three-tasks: the smallest preemptive kernel. No task ever gives up the processor; the timer takes it.
#
# Each task has a stack of its own with a frame for IRET at its top. The handler of IRQ0 saves the registers on the
# stack of the task that runs, changes SP, and restores those of the next. A piece of work is n / 2^22 ticks (port
# 0xE0) and a letter, A, B or C; when its `count` pieces are done a task sleeps. The last one to finish stops the
# machine.
#
# Source: Intel SDM vol. 2, IRET, PUSHA; Intel 8254 datasheet (231164), "Mode 2: Rate Generator".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"

.set CLOCK, 0xE0
.set STACKS, 0x6000             # task n's is 1 KiB, below 0x6400 + 0x400 * n
.set TASKS, 3
.globl _start
_start:
    mov dword ptr [8 * 4], offset tick
    mov al, 0x34                # counter 0, both bytes, mode 2
    out 0x43, al
    mov ax, [the_value]
    out 0x40, al
    mov al, ah
    out 0x40, al
    mov di, TASKS - 1
make:                           # a task that never ran looks like one that was interrupted at its first instruction
    mov sp, di
    shl sp, 10
    add sp, STACKS + 0x400
    push 0x202                  # FLAGS: interrupts on
    push 0                      # CS
    push offset task
    mov ebx, [the_nonce]
    add ebx, edi                # each has its own stream
    mov bp, di
    mov esi, [the_count]
    pushad
    mov [saved + edi * 2], sp
    dec di
    jns make
    popad                       # the last one made is task 0
    iret

tick:
    pushad
    mov di, [current]
    mov [saved + di], sp        # DI counts in words
    add di, 2
    cmp di, 2 * TASKS
    jb 1f
    xor di, di
1:  mov [current], di
    mov sp, [saved + di]
    popad
    iret

task:                           # BP: which one; EBX: its stream; ESI: pieces left
    NEXT
    shr eax, 22
    out CLOCK, eax
    mov dx, [the_port]
    lea ax, [bp + 'A']
    out dx, al
    dec esi
    jnz task
    dec byte ptr [alive]
    jz stop
1:  hlt                         # nothing left to do: the next tick is for the others
    jmp 1b
stop:
    cli
    hlt
current: .word 0
saved:   .word 0, 0, 0
alive:   .byte TASKS

PARAMETERS count=8, value=1200
