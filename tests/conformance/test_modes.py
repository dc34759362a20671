"""The modes: entered by registers, and climbed by the guest itself; what each decodes, and how wide its world is.

Source: SDM vol. 3, "Mode Switching" and "Initializing IA-32e Mode"; SDM vol. 2, "REX Prefixes".
"""

from __future__ import annotations

import pytest
from rig import ALL_MODES, HLT, LONG, PROTECTED, REAL, WIDTH, Out, Trapped, asm16, asm32, asm64
from rig.layout import CODE16, CODE32, DATA, GDT, KDATA, PML4, SMALL, STACK

from minivmm.x86 import bits
from minivmm.x86.descriptors import DATA_READ_WRITE, Descriptor

# The same bytes are different instructions to each decoder (see guests/include/hello.inc).
DECODE_ME = bytes([0xB8, 0x01, 0x00, 0xEB, 0x00, 0x40, 0x90, 0xF4])
DECODED = {16: 2, 32: 0x00EB0002, 64: 0x00EB0001}


@pytest.mark.parametrize("mode", ALL_MODES)
def test_the_decoder_of_each_mode(start, mode):
    guest = start(mode, DECODE_ME)
    assert guest.trace() == [HLT]
    assert guest.regs.rax == DECODED[WIDTH[mode]]


@pytest.mark.parametrize("code_segment", [CODE32, CODE16], ids=["32-bit", "16-bit"])
def test_compatibility_mode(start, code_segment):
    guest = start(LONG, DECODE_ME)
    sregs = guest.cpu.sregs
    sregs.cs.selector, sregs.cs.l, sregs.cs.db = code_segment, 0, int(code_segment == CODE32)
    guest.cpu.set_sregs(sregs)
    assert guest.trace() == [HLT]
    assert guest.regs.rax == DECODED[32 if code_segment == CODE32 else 16]


def test_protected_mode_with_16_bit_code(start):
    guest = start(PROTECTED, DECODE_ME)
    sregs = guest.cpu.sregs
    sregs.cs.selector, sregs.cs.db = CODE16, 0
    guest.cpu.set_sregs(sregs)
    assert guest.trace() == [HLT]
    assert guest.regs.rax == DECODED[16]


def test_from_real_to_protected_to_long_and_back_to_real(start):
    guest = start(REAL, asm16("""
        mov dx, 0x123
        lgdt [pointer]; mov eax, cr0; or al, 1; mov cr0, eax; ljmp 0x08, offset protected
    pointer: .word 0x7F; .long GDT
        .code32
    protected:
        mov eax, KDATA; mov ds, eax; mov es, eax; mov ss, eax; mov al, 32; out dx, al
        mov eax, cr4; or eax, 0x20; mov cr4, eax; mov eax, PML4; mov cr3, eax
        mov ecx, 0xC0000080; rdmsr; or eax, 0x100; wrmsr
        mov eax, cr0; or eax, 0x80000000; mov cr0, eax; mov edx, 0x123; ljmp 0x18, offset long
        .code64
    long:
        mov al, 64; out dx, al; mov rax, -1; inc rax; jnz wrong
        push CODE32; mov eax, offset compatible; push rax; rex.w lret
        .code32
    compatible:
        mov al, 33; out dx, al
        mov eax, cr0; and eax, 0x7FFFFFFF; mov cr0, eax
        mov ecx, 0xC0000080; rdmsr; and eax, 0xFFFFFEFF; wrmsr; mov edx, 0x123; mov al, 34; out dx, al
        ljmp CODE16, offset narrow
        .code16
    narrow:
        mov eax, 0x70; mov ds, ax; mov ss, ax; mov eax, cr0; and al, 0xFE; mov cr0, eax; ljmp 0, offset real
    real:
        xor ax, ax; mov ds, ax; mov ss, ax; mov al, 16; out dx, al; int 0x40
    wrong:
        hlt
    """))  # fmt: skip
    long = start(LONG, asm64("hlt"))  # its GDT and page tables
    guest.write(GDT, long.read(GDT, 0x80))
    guest.write(PML4, long.read(PML4, 0x4000))
    guest.poke(GDT + 0x70, int.from_bytes(Descriptor(limit=0xFFFF, type=DATA_READ_WRITE).encode(), "little"))
    steps = [Out(0x123, 1, step) for step in (32, 64, 33, 34, 16)]
    assert guest.trace() == [*steps, Trapped(0x40)]
    assert guest.cpu.sregs.cr0 & 1 == 0


def test_long_mode_is_active_only_with_paging(start):
    guest = start(PROTECTED, asm32("""
        mov eax, cr4; or eax, 0x20; mov cr4, eax; mov eax, PML4; mov cr3, eax
        mov ecx, 0xC0000080; rdmsr; or eax, 0x100; wrmsr; rdmsr; mov ebx, eax
        mov eax, cr0; or eax, 0x80000000; mov cr0, eax; rdmsr; hlt
    """))  # fmt: skip
    guest.write(PML4, start(LONG, asm64("hlt")).read(PML4, 0x4000))
    assert guest.trace() == [HLT]
    active = bits.EFER_LMA
    assert (guest.regs.rbx & active, guest.regs.rax & active, guest.cpu.sregs.efer & active) == (0, active, active)


def test_a_real_mode_segment_counts_in_sixteens(start):
    guest = start(REAL, asm16("mov ax, 0x400; mov ds, ax; mov byte ptr [0x10], 7; mov bx, ds; hlt"))
    assert guest.trace() == [HLT]
    assert (guest.read(DATA + 0x10, 1), guest.regs.rbx & 0xFFFF) == (b"\x07", 0x400)
    assert guest.cpu.sregs.ds.base == 0x4000


def test_a_far_jump_in_real_mode(start):
    guest = start(REAL, asm16("ljmp 0x200, 0x10"))
    guest.write(0x2010, asm16("mov ax, cs; hlt"))
    assert guest.trace() == [HLT]
    assert (guest.regs.rax & 0xFFFF, guest.regs.rip, guest.cpu.sregs.cs.base) == (0x200, 0x13, 0x2000)


def test_unreal_mode_keeps_the_limit_of_protected_mode(start):
    guest = start(REAL, asm16("""
        lgdt [pointer]; mov eax, cr0; or al, 1; mov cr0, eax; mov bx, KDATA; mov fs, bx
        and al, 0xFE; mov cr0, eax; mov eax, 0x100000; mov ebx, fs:[eax]; hlt
    pointer: .word 0x7F; .long GDT
    """))  # fmt: skip
    guest.write(GDT, start(PROTECTED, asm32("hlt")).read(GDT, 0x80))
    guest.slot(1, 0x100000, 4096)[:4] = b"\x44\x33\x22\x11"
    assert guest.trace() == [HLT]
    assert guest.regs.rbx & 0xFFFFFFFF == 0x11223344


def test_segment_bases_do_not_count_in_64_bit_mode_but_fs_and_gs_do(start):
    guest = start(LONG, asm64("mov rax, ds:[DATA]; mov rbx, fs:[8]; mov rcx, gs:[8]; hlt"))
    sregs = guest.cpu.sregs
    sregs.ds.base, sregs.fs.base, sregs.gs.base = 0x1000, DATA + 8, DATA + 16
    guest.cpu.set_sregs(sregs)
    for n in range(4):
        guest.poke(DATA + 8 * n, n + 1)
    assert guest.trace() == [HLT]
    assert (guest.regs.rax, guest.regs.rbx, guest.regs.rcx) == (1, 3, 4)


def test_swapgs_and_the_base_msrs(start):
    guest = start(LONG, asm64("""
        mov ecx, 0xC0000101; mov eax, DATA; xor edx, edx; wrmsr; inc ecx; mov eax, DATA + 8; wrmsr
        mov rbx, gs:[0]; swapgs; mov rsi, gs:[0]; rdmsr; mov edi, eax; hlt
    """))  # fmt: skip
    guest.poke(DATA, 0x11)
    guest.poke(DATA + 8, 0x22)
    assert guest.trace() == [HLT]
    assert (guest.regs.rbx, guest.regs.rsi, guest.regs.rdi) == (0x11, 0x22, DATA)
    assert guest.cpu.sregs.gs.base == DATA + 8


def test_a_segment_with_a_base_in_protected_mode(start):
    guest = start(PROTECTED, asm32("mov eax, SMALL; mov fs, eax; mov byte ptr fs:[3], 9; hlt"))
    assert guest.trace() == [HLT]
    assert guest.read(DATA + 3, 1) == b"\x09"
    sregs = guest.cpu.sregs  # held by name: a part of a structure does not keep it alive
    fs = sregs.fs
    assert (fs.base, fs.limit, fs.selector) == (DATA, 0xF, SMALL)


def test_an_access_beyond_a_segments_limit(start):
    guest = start(PROTECTED, asm32("mov eax, SMALL; mov fs, eax; mov al, fs:[15]; mov al, fs:[16]; hlt"))
    assert guest.trace() == [Trapped(13, 0)]
    assert guest.cpu.trap().offset == 13


def test_a_write_to_a_read_only_segment(start):
    guest = start(PROTECTED, asm32("mov eax, 0x68; mov fs, eax; mov al, fs:[0]; mov fs:[0], al; hlt"))
    read_only = Descriptor(base=DATA, limit=0xFF, type=1)
    guest.entry(0x68, int.from_bytes(read_only.encode(), "little"))
    assert guest.trace() == [Trapped(13, 0)]


def test_loading_a_segment_sets_the_accessed_bit(start):
    guest = start(PROTECTED, asm32("mov eax, 0x68; mov fs, eax; hlt"))
    fresh = Descriptor(limit=0xFF, type=2)
    guest.entry(0x68, int.from_bytes(fresh.encode(), "little"))
    assert guest.trace() == [HLT]
    assert guest.word(GDT + 0x68 + 5, 1) & 1


def test_a_null_selector_may_be_loaded_but_not_used(start):
    guest = start(PROTECTED, asm32("xor eax, eax; mov fs, eax; mov dx, 0x123; out dx, al; mov al, fs:[0]; hlt"))
    assert guest.trace() == [Out(0x123, 1, 0), Trapped(13, 0)]


def test_32_bit_results_clear_the_upper_half_and_16_bit_ones_do_not(start):
    guest = start(LONG, asm64("mov rax, -1; mov rbx, rax; mov rcx, rax; mov eax, 1; mov bx, 1; mov cl, 1; hlt"))
    guest.trace()
    regs = guest.regs
    assert (regs.rax, regs.rbx, regs.rcx) == (1, 0xFFFFFFFFFFFF0001, 0xFFFFFFFFFFFFFF01)


def test_virtual_8086_mode_decodes_16_bits_and_traps_hlt(start):
    guest = start(PROTECTED, bytes([*DECODE_ME[:7], 0xF4]), rflags=0x20002)
    sregs = guest.cpu.sregs
    for name in ("cs", "ds", "es", "fs", "gs", "ss"):
        Descriptor(limit=0xFFFF, type=11 if name == "cs" else 3, dpl=3).fill(getattr(sregs, name), 0)
        getattr(sregs, name).type = 3
    guest.cpu.set_sregs(sregs)
    assert guest.trace() == [Trapped(13, 0)]
    assert guest.regs.rax == DECODED[16]
    assert guest.cpu.trap().flags & bits.RFLAGS_VM


def test_virtual_8086_mode_entered_by_iret(start):
    guest = start(PROTECTED, asm32("""
        push 0; push 0; push 0; push 0; push 0; push USER; push 0x20002; push 0; push SECOND; iretd
    """))  # fmt: skip
    guest.write(0x2000, asm16("mov ax, 0x400; mov ds, ax; mov byte ptr [0], 5; cli"))
    assert guest.trace() == [Trapped(13, 0)]
    trap = guest.cpu.trap()
    assert (trap.ip, trap.cs, trap.flags & bits.RFLAGS_VM) == (0x200A, 0, bits.RFLAGS_VM)
    assert guest.read(DATA, 1) == b"\x05"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"cr0": bits.CR0_PG}, "PG without PE"),
        ({"cr4": 1 << 63}, "a reserved bit of CR4"),
        ({"efer": bits.EFER_LME | bits.EFER_LMA, "cr0": bits.CR0_PE | bits.CR0_PG, "cr4": 0}, "LMA without PAE"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else None,
)
def test_a_state_against_the_rules_is_refused(start, change, why):
    with pytest.raises(OSError, match="EINVAL"):
        start(REAL, asm16("hlt")).cpu.change(**change)


def test_the_stack_of_each_mode(start):
    for mode, code in (
        (REAL, asm16("push ax; hlt")),
        (PROTECTED, asm32("push eax; hlt")),
        (LONG, asm64("push rax; hlt")),
    ):
        guest = start(mode, code)
        guest.trace()
        assert STACK - guest.regs.rsp == WIDTH[mode] // 8


def test_loading_ss_with_a_data_segment(start):
    guest = start(PROTECTED, asm32("mov eax, KDATA; mov ss, eax; push 5; pop ebx; hlt"))
    assert guest.trace() == [HLT]
    assert (guest.regs.rbx, guest.cpu.sregs.ss.selector) == (5, KDATA)
