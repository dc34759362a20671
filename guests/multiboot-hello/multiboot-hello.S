# multiboot-hello: a kernel with a multiboot header, which prints what its loader told it. A line each, numbers in hex:
#
#     hello <the nonce, high half> <low half>
#     state <EAX> <CR0.PG and CR0.PE> <EFLAGS.VM and EFLAGS.IF>
#     ram <mem_upper> <the sum of what the memory map calls RAM, modulo 2^32>
#     module <its checksum, keyed with the nonce: b> <a>       for each; and at last: command <the command line>
#
# Source: Multiboot Specification 0.6.96, "The layout of Multiboot header", "Machine state", "Boot information format".

.intel_syntax noprefix
.code32
.include "params.inc"
.include "console.inc"
.include "checksum.inc"
.macro NUMBER value             # the value must not be in EAX, ECX or EDI
    CHAR SPACE
    mov eax, \value
    HEX 8
.endm

header:                         # page-aligned modules and a memory map, please; the addresses are here (bit 16)
    .long 0x1BADB002, 0x10003, -(0x1BADB002 + 0x10003)
    .long header, header, 0, 0, _start
_start: .globl _start
    mov esp, offset stack + 64  # a loader owes nobody a stack
    mov ebp, eax
    mov dx, [the_port]
    TEXT hello
    NUMBER [the_nonce + 4]
    NUMBER [the_nonce]
    TEXT state
    NUMBER ebp
    mov ebp, cr0
    and ebp, 0x80000001
    NUMBER ebp
    pushfd
    and dword ptr [esp], 0x20200
    NUMBER [esp]
    TEXT ram
    NUMBER [ebx + 8]            # mem_upper
    mov esi, [ebx + 48]         # mmap_addr
    xor ebp, ebp
1:  cmp dword ptr [esi + 20], 1 # type: RAM
    jne 2f
    add ebp, [esi + 12]         # length
2:  add esi, [esi]              # the size of an entry, which doesn't count itself
    add esi, 4
    mov eax, [ebx + 48]
    add eax, [ebx + 44]         # mmap_length
    cmp esi, eax
    jb 1b
    NUMBER ebp
3:  dec dword ptr [ebx + 20]    # mods_count
    js 4f
    TEXT module
    mov eax, [ebx + 24]         # mods_addr: start, end, string, reserved
    add dword ptr [ebx + 24], 16
    mov esi, [eax]
    mov ebp, [eax + 4]
    sub ebp, esi
    push ebx
    call checksum
    mov esi, eax
    NUMBER esi
    NUMBER ebx
    pop ebx
    jmp 3b
4:  TEXT command
    mov esi, [ebx + 16]         # cmdline
    call put_text
    CHAR NEWLINE
    hlt
hello:   .asciz "hello"
state:   .asciz "\nstate"
ram:     .asciz "\nram"
module:  .asciz "\nmodule"
command: .asciz "\ncommand "
stack:   .skip 64
PARAMETERS
