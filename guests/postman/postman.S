# postman: sends letters one by one, or by a device that it looks for, many at a time.
#
# The letters are 'a' plus the top four bits of each byte of the stream, `count` of them. The guest reads 4 bytes at
# port `option`. If they are "POST", there is a postbox: it takes the address of a buffer at this port, and a length at
# the port 4 above. The guest fills the buffer with `size` letters at a time, and rings once for them. Else it sends
# each letter to the console by itself. The letters are the same.
#
# Source: virtio 1.2, "Virtqueues": data lies in memory, and an exit only says that it is there.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"

.set POST, 0x54534F50           # "POST" in memory

.macro LETTER
    NEXT_BYTE
    shr al, 4
    add al, 'a'
.endm

.globl _start
_start:
    SEED
    mov ebp, [the_count]
    mov dx, [the_option]
    in eax, dx
    cmp eax, POST
    jne one_by_one

    mov eax, [the_address]
    out dx, eax
    add dx, 4
batch:
    test ebp, ebp
    jz done
    mov ecx, [the_size]
    cmp ecx, ebp
    jbe 1f
    mov ecx, ebp                # the last batch may be smaller
1:  sub ebp, ecx
    mov esi, ecx
    mov edi, [the_address]
2:  LETTER
    mov [edi], al
    inc edi
    dec ecx
    jnz 2b
    mov eax, esi
    out dx, eax                 # the bell
    jmp batch

one_by_one:
    mov dx, [the_port]
3:  sub ebp, 1
    jb done
    LETTER
    out dx, al
    jmp 3b
done:
    hlt

PARAMETERS count=64, size=16, address=0x8000, option=0x700
