# mode-walk: from real mode to 64-bit mode in four steps, as the start code of every operating system does it.
#
# In each mode the guest prints a line, "p 00000000 00000001 0008 9c0e41aa": a letter (r real, p protected, c
# compatibility, l long); of EFER the bits LMA, LME and SCE; of CR0 the bits PG and PE; the selector in CS; and the next
# number of the stream. Where CPUID does not offer long mode, because the VMM never called KVM_SET_CPUID2, the walk ends
# after the second line with "x".
#
# Source: Intel SDM vol. 3, "Mode Switching" and "Initializing IA-32e Mode"; APM vol. 2, "Initializing Long Mode".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "stream.inc"
.include "console.inc"
.include "tables.inc"

.macro REPORT letter, put_hex, a
    mov ecx, 0xC0000080         # EFER
    rdmsr
    mov esi, eax
    mov dx, [the_port]
    CHAR \letter
    CHAR SPACE
    mov eax, esi
    and eax, 0x501              # LMA, LME, SCE
    HEX 8, \put_hex
    CHAR SPACE
    mov \a, cr0
    and eax, 0x80000001         # PG, PE
    HEX 8, \put_hex
    CHAR SPACE
    mov eax, cs
    HEX 4, \put_hex
    CHAR SPACE
    NEXT
    HEX 8, \put_hex
    CHAR NEWLINE
.endm

.globl _start
_start:
    SEED
    REPORT 'r', put_hex, eax

    lgdt [gdt_pointer]
    mov eax, cr0
    or al, 1                    # PE: segment registers are selectors from now on
    mov cr0, eax
    jmp CODE32:protected        # only a far jump changes what CS means

.code32
DEFINE_PUT_HEX put_hex32
protected:
    LOAD_DATA_SEGMENTS
    mov esp, 0xF000
    REPORT 'p', put_hex32, eax

    UNLESS_LONG_MODE no_long_mode
    ENABLE_LONG_MODE
    REPORT 'c', put_hex32, eax  # long mode is active, but CS still says 32-bit: compatibility mode
    jmp CODE64:long

.code64
DEFINE_PUT_HEX put_hex64
long:
    REPORT 'l', put_hex64, rax
    hlt

.code32
no_long_mode:
    mov dx, [the_port]          # CPUID changed EDX
    CHAR 'x'
    CHAR NEWLINE
    hlt

FLAT_GDT
PARAMETERS
