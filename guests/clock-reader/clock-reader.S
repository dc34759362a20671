# clock-reader: tells the time as a guest of KVM does, from a page in its memory.
#
# `count` times: reads the page at `address`: again while the version is odd, and again if it has changed behind the
# other fields. Then prints system_time + (((TSC - tsc_timestamp) << tsc_shift) * tsc_to_system_mul >> 32), 16 digits,
# and works for n / 2^20 ticks. Before each field it writes to port 0xE4: a slow reader, so the host can change the
# page under it. The TSC is port 0xE0 here, the clock that its work moves.
#
# Source: Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW.

.intel_syntax noprefix
.code64
.include "params.inc"
.include "stream.inc"
.include "console.inc"

.set CLOCK, 0xE0
.set PAUSE, 0xE4

.globl _start
_start:
    SEED
    mov r12, [the_address]
    mov r13d, [the_count]
again:
    test r13d, r13d
    jz done
    mov ebp, [r12]              # version
    test ebp, 1
    out PAUSE, al
    jnz again
    mov r8, [r12 + 8]           # tsc_timestamp
    out PAUSE, al
    mov r9, [r12 + 16]          # system_time
    out PAUSE, al
    mov r10d, [r12 + 24]        # tsc_to_system_mul
    out PAUSE, al
    movsx ecx, byte ptr [r12 + 28]  # tsc_shift
    out PAUSE, al
    cmp ebp, [r12]
    jne again
    in eax, CLOCK
    sub rax, r8
    test ecx, ecx
    js 1f
    shl rax, cl
    jmp 2f
1:  neg ecx
    shr rax, cl
2:  mul r10
    shrd rax, rdx, 32
    add r9, rax
    mov dx, [the_port]
    mov rax, r9
    shr rax, 32
    HEX 8
    mov eax, r9d
    HEX 8
    CHAR NEWLINE
    NEXT
    shr eax, 20
    out CLOCK, eax
    dec r13d
    jmp again
done:
    hlt

PARAMETERS address=0x9000, count=4
