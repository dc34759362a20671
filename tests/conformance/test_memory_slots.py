"""Memory slots: how many, which are refused, deleting, read-only ones, and what the guest sees of each.

Source: KVM API, KVM_SET_USER_MEMORY_REGION.
"""

from __future__ import annotations

import errno
import mmap

import pytest
from rig import HLT, LONG, PROTECTED, REAL, Load, Out, Store, asm16, asm32, asm64
from rig.layout import DATA, HOLE, PD, PDPT, RAM_SIZE, SPARE

from minivmm.kvm import constants as k
from minivmm.kvm.calls import address_of
from minivmm.kvm.errors import KvmError

PAGE = 4096
ELSEWHERE = 0x100000


def refused(call, *arguments):
    """The errno with which KVM refuses a call."""
    with pytest.raises(KvmError) as refusal:
        call(*arguments)
    return refusal.value.errno


def test_seventy_slots(start):
    guest = start(PROTECTED, asm32("""
        mov esi, 0x100000; mov dx, 0x123
    next: mov eax, [esi]; out dx, eax; add esi, 0x2000; cmp esi, 0x100000 + 70 * 0x2000; jne next; hlt
    """))  # fmt: skip
    for number in range(70):
        guest.slot(number + 1, ELSEWHERE + number * 2 * PAGE, PAGE)[:4] = (number + 1000).to_bytes(4, "little")
    assert guest.trace() == [*(Out(0x123, 4, number + 1000) for number in range(70)), HLT]


def test_the_capability_names_more_than_64_slots(vm):
    assert vm.has(k.KVM_CAP_NR_MEMSLOTS) >= 64


@pytest.mark.parametrize("gpa", [ELSEWHERE, ELSEWHERE - PAGE, ELSEWHERE + PAGE], ids=["same", "below", "above"])
def test_overlap_is_refused(vm, gpa):
    vm.slot(0, ELSEWHERE, 2 * PAGE)
    assert refused(vm.slot, 1, gpa, 2 * PAGE) == errno.EEXIST


def test_neighbours_do_not_overlap(vm):
    vm.slot(0, ELSEWHERE, PAGE)
    vm.slot(1, ELSEWHERE + PAGE, PAGE)
    vm.slot(2, ELSEWHERE - PAGE, PAGE)


@pytest.mark.parametrize(("gpa", "size", "offset"), [(ELSEWHERE + 1, PAGE, 0), (0, PAGE + 1, 0), (0, PAGE, 8)])
def test_misaligned_is_refused(vm, gpa, size, offset):
    memory = mmap.mmap(-1, 2 * PAGE)
    assert refused(vm.region, 0, gpa, size, address_of(memory) + offset) == errno.EINVAL


def test_a_slot_number_beyond_the_limit_is_refused(vm):
    assert refused(vm.slot, vm.has(k.KVM_CAP_NR_MEMSLOTS), 0, PAGE) == errno.EINVAL


def test_unknown_flags_are_refused(vm):
    assert refused(vm.slot, 0, 0, PAGE, 1 << 31) == errno.EINVAL


def test_deleting_what_is_not_there_is_refused(vm):
    assert refused(vm.slot, 5, 0, 0) == errno.EINVAL


@pytest.mark.parametrize("change", ["size", "memory", "read-only"])
def test_a_slot_that_exists_can_not_change(vm, change):
    memory = vm.slot(0, 0, 2 * PAGE)
    other = mmap.mmap(-1, 2 * PAGE)
    new = {"size": (PAGE, memory, 0), "memory": (2 * PAGE, other, 0), "read-only": (2 * PAGE, memory, 2)}[change]
    assert refused(vm.region, 0, 0, new[0], address_of(new[1]), new[2]) == errno.EINVAL


def test_the_same_slot_again_and_with_the_dirty_log_is_allowed(vm):
    memory = vm.slot(0, 0, PAGE)
    vm.region(0, 0, PAGE, address_of(memory))
    vm.region(0, 0, PAGE, address_of(memory), k.KVM_MEM_LOG_DIRTY_PAGES)


def test_a_slot_that_moves_takes_its_memory_along(start):
    guest = start(PROTECTED, asm32("""
        mov dx, 0x123; mov eax, [0x100000]; out dx, eax; mov eax, [0x200000]; out dx, eax; hlt
    """))  # fmt: skip
    memory = guest.slot(1, ELSEWHERE, PAGE)
    memory[:4] = b"here"
    guest.region(1, 2 * ELSEWHERE, PAGE, address_of(memory))
    here = int.from_bytes(b"here", "little")
    assert guest.trace([5]) == [Load(ELSEWHERE, 4), Out(0x123, 4, 5), Out(0x123, 4, here), HLT]


def test_a_deleted_slot_is_a_hole(start):
    guest = start(PROTECTED, asm32("""
    again: mov eax, [0x100000]; mov dx, 0x123; out dx, eax; mov [0x100000], eax; jmp again
    """))  # fmt: skip
    memory = guest.slot(1, ELSEWHERE, PAGE)
    memory[:4] = b"\1\0\0\0"
    assert str(guest.cpu.run()).startswith("out32")
    guest.slot(1, ELSEWHERE, 0)
    exits = [guest.cpu.run() for _ in range(2)]
    assert [exit.name for exit in exits] == ["KVM_EXIT_MMIO"] * 2
    assert memory[:4] == b"\1\0\0\0"


def test_a_slot_made_again_shows_the_new_memory(start):
    guest = start(REAL, asm16("again: mov ax, [SPARE]; mov dx, 0x123; out dx, ax; jmp again"))
    guest.slot(0, 0, 0)
    low, high = guest.ram, mmap.mmap(-1, RAM_SIZE)
    guest.slot(0, 0, SPARE, memory=low)
    guest.slot(1, SPARE, PAGE, memory=high)
    high[:2] = b"\x22\x22"
    assert guest.cpu.run().data == b"\x22\x22"
    guest.slot(1, SPARE, 0)
    other = guest.slot(1, SPARE, PAGE)
    other[:2] = b"\x33\x33"
    assert guest.cpu.run().data == b"\x33\x33"


def test_a_read_only_slot_reads_like_memory_and_writes_exit(start):
    guest = start(PROTECTED, asm32("""
        mov eax, [0x100000]; inc eax; mov [0x100000], eax; mov eax, [0x100000]; mov dx, 0x123; out dx, eax; hlt
    """))  # fmt: skip
    memory = guest.slot(1, ELSEWHERE, PAGE, k.KVM_MEM_READONLY)
    memory[:4] = b"\x05\0\0\0"
    assert guest.trace() == [Store(ELSEWHERE, 4, 6), Out(0x123, 4, 5), HLT]
    assert memory[:4] == b"\x05\0\0\0"


def test_code_runs_from_a_read_only_slot(start):
    guest = start(PROTECTED, asm32("mov eax, 0x100000; jmp eax"))
    rom = guest.slot(1, ELSEWHERE, PAGE, k.KVM_MEM_READONLY)
    rom[:1] = asm32("hlt")
    assert guest.trace() == [HLT]
    assert guest.regs.rip == ELSEWHERE + 1


def test_two_slots_may_share_memory(start):
    guest = start(PROTECTED, asm32("mov dword ptr [0x100000], 0x77; mov eax, [0x200000]; hlt"))
    memory = guest.slot(1, ELSEWHERE, PAGE)
    guest.slot(2, 2 * ELSEWHERE, PAGE, memory=memory)
    assert guest.trace() == [HLT]
    assert guest.regs.rax == 0x77


def test_memory_at_three_gib(start):
    guest = start(PROTECTED, asm32("mov dword ptr [0xC0000000], 0x1234; mov eax, [0xC0000FFC]; hlt"))
    memory = guest.slot(1, 0xC0000000, PAGE)
    memory[-4:] = b"last"
    assert guest.trace() == [HLT]
    assert (memory[:4], guest.regs.rax) == (b"\x34\x12\0\0", int.from_bytes(b"last", "little"))


def test_memory_above_four_gib(start):
    guest = start(LONG, asm64("movabs rbx, 0x100000000; mov qword ptr [rbx], 0x55; mov rax, [rbx + 0x1000]; hlt"))
    guest.poke(PDPT + 8 * 4, SPARE | 7)
    guest.poke(SPARE, 1 << 32 | 0x87)
    memory = guest.slot(1, 1 << 32, PAGE)
    assert guest.trace([0x66]) == [Load((1 << 32) + PAGE, 8), HLT]
    assert (memory[0], guest.regs.rax) == (0x55, 0x66)


def test_a_vm_can_have_a_gibibyte(start):
    guest = start(LONG, asm64("mov rax, [0x200000]; mov qword ptr [0x3FFFF8 + 0x3FC00000], 9; hlt"))
    guest.write(PD, b"".join((n << 21 | (0x87 if n else 0)).to_bytes(8, "little") for n in range(512)))
    guest.poke(PD, 0x13007)
    memory = guest.slot(1, ELSEWHERE, (1 << 30) - ELSEWHERE)
    memory[ELSEWHERE : ELSEWHERE + 1] = b"\x42"
    assert guest.trace() == [HLT]
    assert (guest.regs.rax, memory[-8]) == (0x42, 9)


def test_the_host_sees_what_the_guest_writes_and_back(start):
    guest = start(REAL, asm16("inc word ptr [DATA]; mov ax, [DATA]; mov dx, 0x123; out dx, ax; jmp CODE"))
    guest.cpu.run()
    assert guest.word(DATA, 2) == 1
    guest.poke(DATA, 0x1233, 2)
    assert guest.cpu.run().data == b"\x34\x12"


def test_an_instruction_fetched_from_a_hole_can_not_be_run(start):
    guest = start(PROTECTED, asm32("mov eax, HOLE; jmp eax"))
    assert guest.trace()[-1].how == "KVM_EXIT_INTERNAL_ERROR"
    assert guest.regs.rip == HOLE
