"""Paging as the guest sees it: faults with their codes and CR2, accessed and dirty bits, NX, WP, SMEP, large pages.

Source: SDM vol. 3, "Paging", "Page-Fault Exceptions"; APM vol. 2, "Page Translation and Protection".
"""

from __future__ import annotations

import pytest
from rig import HLT, LONG, PAE, PAGED, PAGING32, SHUTDOWN, Out, Trapped, asm, asm32, asm64
from rig.layout import CODE, DATA, HOLE, PAE_PD, PAE_PT, PD, PD32, PDPT, PML4, PT, SECOND, SPARE

from minivmm.kvm import ioctls as io
from minivmm.kvm.calls import struct
from minivmm.x86 import bits

PF = 14
P, W, U, A, D, LARGE, G, NX = 1, 2, 4, 0x20, 0x40, 0x80, 0x100, 1 << 63
# The error code (SDM vol. 3, "Page-Fault Error Code").
BY_PROTECTION, BY_WRITE, BY_USER, BY_RESERVED, BY_FETCH = 1, 2, 4, 8, 16


def page_fault(guest, code, address):
    """The guest's first event is a page fault with this error code and address."""
    assert guest.trace() == [Trapped(PF, code)]
    assert guest.cpu.sregs.cr2 == address


@pytest.mark.parametrize("mode", PAGED)
@pytest.mark.parametrize("ring", [0, 3])
@pytest.mark.parametrize(
    ("code", "entry", "error"),
    [
        (asm("mov al, [SPARE + 8]"), 0, 0),
        (asm("mov [SPARE + 8], al"), 0, BY_WRITE),
        (asm("mov [SPARE + 8], al"), P | U, BY_WRITE | BY_PROTECTION),
        (asm("inc byte ptr [SPARE + 8]"), P | U, BY_WRITE | BY_PROTECTION),
    ],
    ids=["load-absent", "store-absent", "store-read-only", "inc-read-only"],
)
def test_error_codes_of_data(start, mode, ring, code, entry, error):
    guest = start(mode, code, ring=ring)
    guest.set_page(SPARE, SPARE | entry if entry else 0)
    page_fault(guest, error | (BY_USER if ring else 0), SPARE + 8)


@pytest.mark.parametrize("mode", PAGED)
def test_ring_3_may_not_touch_a_page_of_the_kernel(start, mode):
    guest = start(mode, asm("mov al, [SPARE + 8]"), ring=3)
    guest.set_page(SPARE, SPARE | P | W)
    page_fault(guest, BY_USER | BY_PROTECTION, SPARE + 8)


@pytest.mark.parametrize("mode", PAGED)
def test_a_fetch_from_an_absent_page(start, mode):
    guest = start(mode, asm("mov eax, SPARE; .byte 0xFF, 0xE0"))
    guest.set_page(SPARE, 0)
    page_fault(guest, 0, SPARE)


@pytest.mark.parametrize("mode", PAGED)
def test_a_fault_can_be_repaired_and_the_instruction_tried_again(start, mode):
    guest = start(mode, asm("mov byte ptr [SPARE + 8], 7; mov al, [SPARE + 8]; mov dx, 0x123; out dx, al; hlt"))
    entry = guest.page(SPARE)
    guest.set_page(SPARE, 0)
    page_fault(guest, BY_WRITE, SPARE + 8)
    guest.set_page(SPARE, entry)
    assert guest.trace() == [Out(0x123, 1, 7), HLT]


@pytest.mark.parametrize("mode", PAGED)
def test_write_protection_counts_for_ring_0_only_with_wp(start, mode):
    guest = start(mode, asm("mov byte ptr [SPARE], 7; hlt"))
    guest.set_page(SPARE, SPARE | P)
    guest.cpu.change(cr0=guest.cpu.sregs.cr0 & ~bits.CR0_WP)
    assert guest.trace() == [HLT]
    assert guest.read(SPARE, 1) == b"\x07"


@pytest.mark.parametrize("mode", PAGED)
def test_accessed_and_dirty_bits(start, mode):
    guest = start(mode, asm("mov al, [SPARE]; mov [SPARE + 0x1000], al; hlt"))
    assert guest.trace() == [HLT]
    assert guest.page(SPARE) & (A | D) == A
    assert guest.page(SPARE + 0x1000) & (A | D) == A | D
    assert guest.page(SPARE + 0x2000) & (A | D) == 0
    directory = {LONG: PD, PAE: PAE_PD, PAGING32: PD32}[mode]
    assert guest.word(directory) & A


@pytest.mark.parametrize("mode", PAGED)
def test_a_refused_access_sets_no_dirty_bit(start, mode):
    guest = start(mode, asm("mov [SPARE], al"))
    guest.set_page(SPARE, SPARE | P)
    assert guest.trace() == [Trapped(PF, BY_WRITE | BY_PROTECTION)]
    assert guest.page(SPARE) & D == 0


@pytest.mark.parametrize("mode", [PAE, LONG])
def test_no_execute(start, mode):
    guest = start(mode, asm("mov eax, SPARE; .byte 0xFF, 0xE0"))
    guest.cpu.change(efer=guest.cpu.sregs.efer | bits.EFER_NXE)
    guest.set_page(SPARE, SPARE | P | W | NX)
    page_fault(guest, BY_FETCH | BY_PROTECTION, SPARE)


@pytest.mark.parametrize("mode", [PAE, LONG])
def test_a_page_that_is_not_executable_can_be_read(start, mode):
    guest = start(mode, asm("mov al, [SPARE]; mov [SPARE], al; hlt"))
    guest.cpu.change(efer=guest.cpu.sregs.efer | bits.EFER_NXE)
    guest.set_page(SPARE, SPARE | P | W | NX)
    assert guest.trace() == [HLT]


@pytest.mark.parametrize("mode", [PAE, LONG])
def test_the_nx_bit_is_reserved_until_it_is_switched_on(start, mode):
    guest = start(mode, asm("mov al, [SPARE]"))
    guest.set_page(SPARE, SPARE | P | W | NX)
    page_fault(guest, BY_PROTECTION | BY_RESERVED, SPARE)


@pytest.mark.parametrize("mode", [PAE, LONG])
def test_a_reserved_bit_of_a_large_page(start, mode):
    guest = start(mode, asm("mov al, [0x200000]"))
    guest.poke((PD if mode == LONG else PAE_PD) + 8, 0x200000 | P | W | U | LARGE | 1 << 13)
    page_fault(guest, BY_PROTECTION | BY_RESERVED, 0x200000)


@pytest.mark.parametrize("mode", PAGED)
def test_protection_comes_from_every_level(start, mode):
    """The second directory entry leads to the same table as the first, but read-only."""
    second, entry, size = {
        LONG: (0x200000, PD + 8, 8),
        PAE: (0x200000, PAE_PD + 8, 8),
        PAGING32: (0x400000, PD32 + 4, 4),
    }[mode]
    guest = start(mode, asm("mov [esi], al"), rsi=second + SPARE)
    guest.poke(entry, guest.word(entry - size, size) & ~W, size)
    page_fault(guest, BY_WRITE | BY_PROTECTION, second + SPARE)


@pytest.mark.parametrize("mode", [PAE, LONG])
def test_a_page_of_2_mib(start, mode):
    guest = start(mode, asm("mov byte ptr [0x200123], 9; mov al, [0x3FFFFF]; hlt"))
    memory = guest.slot(1, 0x200000, 0x200000)
    memory[-1:] = b"\x42"
    assert guest.trace() == [HLT]
    assert (memory[0x123], guest.regs.rax & 0xFF) == (9, 0x42)
    assert guest.word((PD if mode == LONG else PAE_PD) + 8) & (A | D) == A | D


def test_a_page_of_4_mib(start):
    guest = start(PAGING32, asm32("mov byte ptr [0x400123], 9; hlt"))
    guest.cpu.change(cr4=bits.CR4_PSE)
    guest.poke(PD32 + 4, 0x400000 | P | W | U | LARGE, 4)
    memory = guest.slot(1, 0x400000, 0x1000)
    assert guest.trace() == [HLT]
    assert memory[0x123] == 9


def test_a_page_of_1_gib(start):
    guest = start(LONG, asm64("mov byte ptr [0x40000123], 9; hlt"))
    if not guest.leaf(0x80000001).edx >> 26 & 1:
        pytest.skip("CPUID has no 1 GiB pages (PDPE1GB)")
    guest.poke(PDPT + 8, 0x40000000 | P | W | U | LARGE)
    memory = guest.slot(1, 0x40000000, 0x1000)
    assert guest.trace() == [HLT]
    assert memory[0x123] == 9


@pytest.mark.parametrize("mode", PAGED)
def test_another_address_space_by_cr3(start, mode):
    guest = start(mode, {
        32: asm32("mov al, [DATA]; mov dx, 0x123; out dx, al; mov eax, cr3; add eax, 0x8000; mov cr3, eax;"
                  "mov al, [DATA]; out dx, al; hlt"),
        64: asm64("mov al, [DATA]; mov dx, 0x123; out dx, al; mov rax, cr3; add rax, 0x10000; mov cr3, rax;"
                  "mov al, [DATA]; out dx, al; hlt"),
    })  # fmt: skip
    guest.write(DATA, b"\x01")
    guest.write(SPARE, b"\x02")
    if mode == LONG:
        copy = guest.read(PML4, 0x4000)
        guest.write(PML4 + 0x10000, copy)
        for table in (PML4, PDPT, PD):
            guest.poke(table + 0x10000, guest.word(table, 8) + 0x10000)
        guest.poke(PT + 0x10000 + 8 * (DATA >> 12), SPARE | 7)
    elif mode == PAE:
        guest.write(0x1C000, guest.read(0x14000, 0x3000))
        guest.poke(0x1C000, guest.word(0x14000, 8) + 0x8000)
        guest.poke(0x1D000, guest.word(0x15000, 8) + 0x8000)
        guest.poke(0x1E000 + 8 * (DATA >> 12), SPARE | 7)
    else:
        guest.write(0x20000, guest.read(PD32, 0x2000))
        guest.poke(0x20000, guest.word(PD32) + 0x8000, 4)
        guest.poke(0x21000 + 4 * (DATA >> 12), SPARE | 7, 4)
    assert guest.trace() == [Out(0x123, 1, 1), Out(0x123, 1, 2), HLT]


@pytest.mark.parametrize("mode", PAGED)
def test_invlpg_after_a_change(start, mode):
    where = {LONG: PT + 8 * (SPARE >> 12), PAE: PAE_PT + 8 * (SPARE >> 12), PAGING32: 0x19000 + 4 * (SPARE >> 12)}[mode]
    guest = start(mode, asm("""
        mov al, [SPARE]; mov dx, 0x123; out dx, al; mov dword ptr [esi], DATA + 7; invlpg [SPARE]
        mov al, [SPARE]; out dx, al; hlt
    """), rsi=where)  # fmt: skip
    guest.write(SPARE, b"\x01")
    guest.write(DATA, b"\x02")
    assert guest.trace() == [Out(0x123, 1, 1), Out(0x123, 1, 2), HLT]


@pytest.mark.parametrize("mode", PAGED)
def test_an_instruction_that_runs_into_an_absent_page(start, mode):
    guest = start(mode, asm("mov eax, SPARE + 0xFFE; .byte 0xFF, 0xE0"))
    guest.write(SPARE + 0xFFE, asm("mov ebx, 0x12345678")[guest.bits])
    guest.set_page(SPARE + 0x1000, 0)
    page_fault(guest, 0, SPARE + 0x1000)
    assert guest.cpu.trap().ip == SPARE + 0xFFE


@pytest.mark.parametrize("mode", PAGED)
def test_an_access_that_runs_into_an_absent_page_changes_nothing(start, mode):
    guest = start(mode, asm("mov eax, 0x44332211; mov [SPARE + 0xFFE], eax"))
    guest.set_page(SPARE + 0x1000, 0)
    page_fault(guest, BY_WRITE, SPARE + 0x1000)
    assert guest.read(SPARE + 0xFFE, 2) == b"\0\0"


def test_rep_movs_stops_at_the_fault_and_goes_on_from_there(start):
    guest = start(LONG, asm64("mov esi, CODE; mov edi, SPARE + 0xFFC; mov ecx, 8; rep movsb; hlt"))
    entry = guest.page(SPARE + 0x1000)
    guest.set_page(SPARE + 0x1000, 0)
    page_fault(guest, BY_WRITE, SPARE + 0x1000)
    regs = guest.regs
    assert (regs.rcx, regs.rdi, regs.rsi) == (4, SPARE + 0x1000, CODE + 4)
    guest.set_page(SPARE + 0x1000, entry)
    assert guest.trace() == [HLT]
    assert guest.read(SPARE + 0xFFC, 8) == guest.read(CODE, 8)


def test_smep_keeps_ring_0_from_user_code(start):
    guest = start(LONG, asm64("mov eax, SPARE; jmp rax"))
    if not guest.leaf(7).ebx >> 7 & 1:
        pytest.skip("CPUID has no SMEP")
    for page in range(64):
        if page != SPARE >> 12:
            guest.set_page(page << 12, page << 12 | P | W)
    guest.cpu.change(cr4=guest.cpu.sregs.cr4 | bits.CR4_SMEP)
    page_fault(guest, BY_FETCH | BY_PROTECTION, SPARE)


def test_smap_keeps_ring_0_from_user_data_unless_ac_is_set(start):
    guest = start(LONG, asm64("stac; mov al, [SPARE]; clac; mov al, [SPARE]"))
    if not guest.leaf(7).ebx >> 20 & 1:
        pytest.skip("CPUID has no SMAP")
    for page in range(64):
        if page != SPARE >> 12:
            guest.set_page(page << 12, page << 12 | P | W)
    guest.cpu.change(cr4=guest.cpu.sregs.cr4 | bits.CR4_SMAP)
    page_fault(guest, BY_PROTECTION, SPARE)
    assert guest.page(SPARE) & A


@pytest.mark.parametrize("mode", [PAGING32, PAE])
def test_switching_paging_off_and_on(start, mode):
    guest = start(mode, asm32("""
        mov eax, cr0; and eax, 0x7FFFFFFF; mov cr0, eax; mov bl, [SPARE]
        or eax, 0x80000000; mov cr0, eax; mov bh, [SPARE]; hlt
    """))  # fmt: skip
    guest.set_page(SPARE, DATA | 7)
    guest.write(SPARE, b"\x01")
    guest.write(DATA, b"\x02")
    assert guest.trace() == [HLT]
    assert guest.regs.rbx == 0x0201


def test_pae_looks_at_its_top_level_when_cr3_is_loaded(start):
    guest = start(PAE, asm32("mov dx, 0x123; out dx, al; mov dword ptr [0x14000], 0; mov eax, cr3; mov cr3, eax; hlt"))
    assert guest.trace() == [Out(0x123, 1, 0), SHUTDOWN]  # nothing is mapped any more, not even a handler


# ---- the host asks ----


@pytest.mark.parametrize("mode", PAGED)
def test_translate(start, mode):
    guest = start(mode, asm("hlt"))
    guest.set_page(SPARE, DATA | P | W | U)
    guest.set_page(SPARE + 0x1000, 0)

    def translate(address):
        answer = struct("kvm_translation", linear_address=address)
        guest.cpu.ioctl(io.KVM_TRANSLATE, answer)
        return answer.physical_address if answer.valid else None

    assert translate(SPARE + 0x123) == DATA + 0x123
    assert translate(HOLE) == HOLE
    assert translate(SPARE + 0x1000) is None


def test_translate_without_paging(start):
    guest = start("protected", asm32("hlt"))
    answer = struct("kvm_translation", linear_address=0x12345)
    guest.cpu.ioctl(io.KVM_TRANSLATE, answer)
    assert (answer.valid, answer.physical_address) == (1, 0x12345)


def test_cr2_can_be_read_and_written(start):
    guest = start(LONG, asm64("mov eax, 0x1234; mov cr2, rax; mov rbx, cr2; hlt"))
    assert guest.trace() == [HLT]
    assert (guest.regs.rbx, guest.cpu.sregs.cr2) == (0x1234, 0x1234)


def test_the_address_is_linear_not_an_offset(start):
    guest = start(LONG, asm64("mov al, fs:[8]"))
    sregs = guest.cpu.sregs
    sregs.fs.base = SPARE
    guest.cpu.set_sregs(sregs)
    guest.set_page(SPARE, 0)
    page_fault(guest, 0, SPARE + 8)


def test_a_high_half_kernel(start):
    guest = start(LONG, asm64("movabs rax, 0xFFFFFFFF80002000; jmp rax"))
    guest.poke(PML4 + 511 * 8, PDPT | 7)
    guest.poke(PDPT + 510 * 8, PD | 7)
    guest.write(SECOND, asm64("lea rbx, [rip]; hlt"))
    assert guest.trace() == [HLT]
    assert guest.regs.rbx == 0xFFFFFFFF80002007
