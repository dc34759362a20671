# elf-segments: a program in three pieces, with room that the file does not hold.
#
# An ELF64 file with three segments to load, gaps between them: code, read-only data, and data that ends in a bss,
# where p_memsz is larger than p_filesz. A loader puts each at its own address and fills the rest with zeros; memory
# is not clean just because nobody has mentioned it. Prints the keyed checksum (checksum.inc) of the constant text,
# of the initialised text and of the bss, a line each: "rodata 0123456789abcdef". The entry is not the first byte of
# the code.
#
# Source: System V ABI, "Program Header" and "Program Loading" (PT_LOAD, p_filesz, p_memsz); man 5 elf.

.intel_syntax noprefix
.code64
.include "params.inc"
.include "console.inc"
.include "checksum.inc"

.macro LINE label, start, end
    TEXT \label
    mov esi, offset \start
    mov ebp, offset \end
    sub ebp, esi
    call checksum
    HEX 8
    mov eax, ebx
    HEX 8
    CHAR NEWLINE
.endm

    .text 0
before_the_entry:
    ud2                         # who starts at the first byte instead of e_entry ends here

.globl _start
_start:
    mov dx, [the_port]
    LINE rodata_label, rodata, rodata_end
    LINE data_label, data, data_end
    LINE bss_label, bss, bss_end
    hlt

    .section .rodata
rodata_label: .asciz "rodata "
data_label: .asciz "data "
bss_label: .asciz "bss "
rodata: .ascii "constants, in pages that nobody should write to"
rodata_end:

    .data
data: .ascii "variables, whose first values come with the file"
data_end:

    .bss
    .skip 24                    # the checked part does not begin where the file ends
bss: .skip 0x1800
bss_end:

PARAMETERS
