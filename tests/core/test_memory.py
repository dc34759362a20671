"""Guest memory: slots, holes, bounds, read-only slots and the dirty log, on the real device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from minivmm import exits
from minivmm.kvm import KvmError, anonymous_memory
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine
from minivmm.memory import PAGE, GuestMemory, GuestMemoryError
from minivmm.vm import Vm


@pytest.fixture
def memory(kvm_backend: Backend) -> Iterator[GuestMemory]:
    with Vm(kvm_backend) as vm:
        yield vm.memory


def test_bounds_are_held_on_every_side(memory: GuestMemory) -> None:
    memory.add(0x10000, 0x2000)
    memory.write(0x10000, b"start")
    memory.write(0x11FFC, b"end!")
    assert memory.read(0x11FFC, 4) == b"end!"
    for gpa, size in ((0xFFFF, 2), (0x11FFD, 4), (0x12000, 1), (0, 1)):
        with pytest.raises(GuestMemoryError, match="no memory at"):
            memory.read(gpa, size)
    with pytest.raises(GuestMemoryError):
        memory.write(0x11FFE, b"long")
    assert memory.read(0x11FFC, 4) == b"end!"  # all or nothing


def test_a_range_may_run_over_slots_that_touch_but_a_view_may_not(memory: GuestMemory) -> None:
    memory.add(0, PAGE)
    memory.add(PAGE, PAGE)
    memory.write(PAGE - 2, b"abcd")
    assert memory.read(PAGE - 2, 4) == b"abcd"
    assert bytes(memory.slots[1].data[:2]) == b"cd"
    with pytest.raises(GuestMemoryError, match="not within one slot"):
        memory.view(PAGE - 2, 4)


def test_a_view_is_the_memory_itself(memory: GuestMemory) -> None:
    memory.add(0, PAGE)
    memory.view(16, 4)[:] = b"seen"
    assert memory.read(16, 4) == b"seen"
    memory.write_int(16, 4, 0x1_2345_6789)
    assert memory.read_int(16, 4) == 0x2345_6789


@pytest.mark.parametrize(("gpa", "size"), [(1, PAGE), (0, 100), (0, 0), (0, -PAGE), (-PAGE, PAGE)])
def test_misaligned_ranges_are_refused(gpa: int, size: int, memory: GuestMemory) -> None:
    with pytest.raises(GuestMemoryError, match="multiples of 4096"):
        memory.add(gpa, size)


def test_an_overlap_names_the_slot_that_is_there(memory: GuestMemory) -> None:
    memory.add(0, 4 * PAGE, name="low ram")
    with pytest.raises(GuestMemoryError, match=r"video at 0x3000.* overlaps slot 0: low ram"):
        memory.add(3 * PAGE, PAGE, name="video")


def test_holes_and_slot_numbers(memory: GuestMemory) -> None:
    low = memory.add(0, PAGE)
    memory.add(3 * PAGE, PAGE)
    assert memory.holes(5 * PAGE) == [range(PAGE, 3 * PAGE), range(4 * PAGE, 5 * PAGE)]
    memory.remove(low)
    assert memory.add(8 * PAGE, PAGE).number == 0  # the number is free again
    with pytest.raises(GuestMemoryError, match="not part of this memory"):
        memory.remove(low)


def test_a_backing_of_ones_own(memory: GuestMemory) -> None:
    backing = anonymous_memory(2 * PAGE)
    backing[5] = 0x55
    memory.add(0, 2 * PAGE, backing=backing)
    assert memory.read(5, 1) == b"\x55"
    with pytest.raises(GuestMemoryError, match="page-aligned"):
        memory.add(4 * PAGE, PAGE, backing=bytearray(PAGE + 8)[8:])


def test_the_dirty_log_tells_once(kvm_backend: Backend) -> None:
    with Machine(0, kvm_backend) as machine:
        code = machine.memory.add(0, PAGE)
        slot = machine.memory.add(0x4000, 70 * PAGE, log_dirty=True)
        # real mode: mov ax, 0x400; mov ds, ax; mov [0], al; mov [0x2abc], al; then es = 0x4900: the 70th page; hlt
        machine.load(0, bytes.fromhex("b80004 8ed8 a20000 a2bc2a b80049 8ed8 a20000 f4"))
        machine.enter("real", 0)
        assert machine.run(2).reason == "halted"
        assert machine.memory.dirty_pages(slot) == [0x4000, 0x6000, 0x49000]
        assert machine.memory.dirty_pages(slot) == []
        with pytest.raises(GuestMemoryError, match="log_dirty=True"):
            machine.memory.dirty_pages(code)


def test_a_write_to_rom_exits_and_leaves_it_alone(kvm_backend: Backend) -> None:
    with Machine(0, kvm_backend) as machine:
        machine.memory.add(0, PAGE)
        machine.memory.add(PAGE, PAGE, read_only=True)
        machine.load(PAGE, b"\xaa")
        machine.load(0, bytes.fromhex("a00010 3401 a20010 f4"))  # mov al, [0x1000]; xor al, 1; mov [0x1000], al; hlt
        machine.enter("real", 0)
        assert machine.run(2).reason == "halted"
        assert exits.MmioWrite(0x1000, 1, b"\xab") in machine.history
        assert machine.memory.read(PAGE, 1) == b"\xaa"
        assert machine.mmio.unclaimed == {0x1000: 1}


def test_kvm_itself_refuses_what_we_let_through(memory: GuestMemory) -> None:
    with pytest.raises(KvmError, match="KVM_SET_USER_MEMORY_REGION"):
        memory.add(1 << 60, PAGE)
