"""Code that changes: by the host between two entries, by the guest itself, under an alias, by another slot.

A processor runs what is in memory now. A backend that keeps translations must notice each of these.
Source: SDM vol. 3, "Self-Modifying Code".
"""

from __future__ import annotations

import mmap

import pytest
from rig import ALL_MODES, HLT, LONG, MODES, PROTECTED, REAL, Out, asm, asm16, asm32, asm64
from rig.layout import CODE, SECOND, SPARE

SAY = 0x123


@pytest.mark.parametrize("mode", ALL_MODES)
def test_the_guest_runs_what_the_host_has_just_written(start, mode):
    guest = start(mode, asm("again: mov al, 0; mov dx, 0x123; out dx, al; jmp again"))
    for value in (0, 1, 2, 3):
        guest.write(CODE + 1, bytes([value]))
        assert guest.cpu.run().data == bytes([value])


@pytest.mark.parametrize("mode", MODES)
def test_a_loop_that_ran_hot_is_noticed_when_it_changes(start, mode):
    guest = start(mode, asm("start: mov ecx, 3000; next: inc ebx; loop next; mov dx, 0x123; out dx, al; jmp start"))
    guest.cpu.run()
    offset = asm("inc ebx; hlt")[guest.bits][:-1]
    where = guest.read(CODE, 32).index(offset)
    guest.write(CODE + where, asm("dec ebx; hlt")[guest.bits][:-1])
    guest.cpu.run()
    assert guest.regs.rbx & 0xFFFFFFFF == 0


@pytest.mark.parametrize("mode", ALL_MODES)
def test_code_that_changes_what_follows(start, mode):
    guest = start(
        mode, asm("mov byte ptr [changed + 1], 0x42; jmp changed; changed: mov al, 0; mov dx, 0x123; out dx, al; hlt")
    )
    assert guest.trace() == [Out(SAY, 1, 0x42), HLT]


@pytest.mark.parametrize("mode", MODES)
def test_code_that_changes_its_own_block_without_a_jump(start, mode):
    guest = start(mode, asm("mov byte ptr [changed + 1], 0x43; changed: mov al, 0; mov dx, 0x123; out dx, al; hlt"))
    assert guest.trace() == [Out(SAY, 1, 0x43), HLT]


def test_a_loop_that_counts_in_its_own_code(start):
    guest = start(LONG, asm64("mov ecx, 100; next: mov eax, 0; inc dword ptr [next + 1]; loop next; hlt"))
    assert guest.trace() == [HLT]
    assert guest.regs.rax == 99


def test_code_changed_through_an_alias(start):
    guest = start(LONG, asm64("mov byte ptr [SPARE + changed - CODE + 1], 7; jmp changed; changed: mov al, 0; hlt"))
    guest.set_page(SPARE, CODE | 7)
    assert guest.trace() == [HLT]
    assert guest.regs.rax & 0xFF == 7


def test_an_instruction_across_two_pages_whose_second_half_changes(start):
    guest = start(PROTECTED, asm32("mov eax, SPARE + 0xFFE; jmp eax"))
    guest.write(SPARE + 0xFFE, asm32("mov ebx, 0x11111111; mov dx, 0x123; out dx, al; mov eax, SPARE + 0xFFE; jmp eax"))
    guest.cpu.run()
    assert guest.regs.rbx == 0x11111111
    guest.write(SPARE + 0x1000, b"\x22\x22\x22")
    guest.cpu.run()
    assert guest.regs.rbx == 0x22222211


def test_another_slot_brings_other_code(start):
    guest = start(REAL, asm16("again: call SECOND; mov dx, 0x123; out dx, al; jmp again"))
    low = guest.ram
    guest.slot(0, 0, 0)
    guest.slot(0, 0, SECOND, memory=low)
    guest.slot(1, SECOND + 0x1000, 0x10000 - SECOND - 0x1000)
    for value, code in ((1, asm16("mov al, 1; ret")), (2, asm16("mov al, 2; ret"))):
        guest.slot(2, SECOND, 4096)[: len(code)] = code
        assert guest.cpu.run().data == bytes([value])
        guest.slot(2, SECOND, 0)


def test_a_page_whose_translation_changes_brings_other_code(start):
    guest = start(LONG, asm64("""
        call SECOND; mov ebx, eax; mov dword ptr [0x13000 + 2 * 8], SPARE + 7; invlpg [SECOND]; call SECOND; hlt
    """))  # fmt: skip
    guest.write(SECOND, asm64("mov eax, 1; ret"))
    guest.write(SPARE, asm64("mov eax, 2; ret"))
    assert guest.trace() == [HLT]
    assert (guest.regs.rbx, guest.regs.rax) == (1, 2)


def test_data_copied_into_place_is_run(start):
    guest = start(LONG, asm64("""
        mov esi, offset from; mov edi, SPARE; mov ecx, 6; rep movsb; mov eax, SPARE; jmp rax
    from: mov ebx, 0x77; hlt
    """))  # fmt: skip
    assert guest.trace() == [HLT]
    assert guest.regs.rbx == 0x77


def test_memory_that_the_host_replaces_under_a_file(start, tmp_path):
    (tmp_path / "rom").write_bytes(asm16("mov al, 5; ret").ljust(4096, b"\0"))
    guest = start(PROTECTED, asm32("mov eax, 0x100000; call eax; hlt"))
    with (tmp_path / "rom").open("r+b") as file:
        guest.slot(1, 0x100000, 4096, memory=mmap.mmap(file.fileno(), 4096))
    assert guest.trace() == [HLT]
    assert guest.regs.rax & 0xFF == 5
