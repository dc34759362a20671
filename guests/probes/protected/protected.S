# protected: does 32-bit code run without paging, and load segment registers from a GDT of its own?
#
# Source: Intel SDM vol. 3, "Segment Descriptors" and "Loading Segment Registers".

.intel_syntax noprefix
.code32
.include "params.inc"
.include "probe.inc"
.include "tables.inc"

.globl _start
_start:
    lgdt [gdt_pointer]
    LOAD_DATA_SEGMENTS
    jmp CODE32:reloaded
reloaded:
    mov eax, 0x12345678
    push eax
    pop ecx
    ror ecx, 16
    cmp ecx, 0x56781234
    jne failed
    PASS
failed:
    FAIL

FLAT_GDT
PARAMETERS
