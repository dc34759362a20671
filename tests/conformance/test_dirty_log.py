"""Which pages did the guest write to? The log by bitmap, with clearing by hand, and the ring.

Source: KVM API, KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG, KVM_CAP_DIRTY_LOG_RING.
"""

from __future__ import annotations

import errno

import pytest
from rig import HLT, LONG, MODES, PROTECTED, REAL, asm, asm32
from rig.layout import DATA, RAM_SIZE, SPARE

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls as io
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct
from minivmm.kvm.errors import KvmError

LOG = k.KVM_MEM_LOG_DIRTY_PAGES


def dirty(vm, slot=0, pages=RAM_SIZE >> 12):
    """The numbers of the pages that the log names; reading it clears it."""
    bitmap = ffi.new("uint64_t[]", (pages + 63) // 64)
    vm.ioctl(io.KVM_GET_DIRTY_LOG, struct("kvm_dirty_log", slot=slot, dirty_bitmap=bitmap))
    return {page for page in range(pages) if bitmap[page // 64] >> page % 64 & 1}


@pytest.mark.parametrize("mode", MODES)
def test_the_log_names_the_pages_written(start, mode):
    guest = start(mode, asm("mov byte ptr [DATA], 1; mov byte ptr [SPARE + 0x1FFF], 1; hlt"), flags=LOG)
    assert guest.trace() == [HLT]
    assert {DATA >> 12, (SPARE >> 12) + 1} <= dirty(guest)


def test_only_those(start):
    """Once the log was read, that is: at first contact KVM may call a page dirty that was only read."""
    guest = start(PROTECTED, asm32("""
    again: mov al, [SPARE]; mov dx, 0x123; out dx, al; mov byte ptr [DATA], 1; out dx, al; jmp again
    """), flags=LOG)  # fmt: skip
    guest.cpu.run()
    guest.cpu.run()
    dirty(guest)
    guest.cpu.run()
    assert dirty(guest) == set()
    guest.cpu.run()
    assert dirty(guest) == {DATA >> 12}


def test_reading_the_log_clears_it_and_a_new_write_is_seen(start):
    guest = start(PROTECTED, asm32("again: mov byte ptr [DATA], 1; mov dx, 0x123; out dx, al; jmp again"), flags=LOG)
    for _ in range(3):
        guest.cpu.run()
        assert DATA >> 12 in dirty(guest)
    assert DATA >> 12 not in dirty(guest)


def test_what_the_host_writes_is_not_logged(start):
    guest = start(REAL, asm("hlt"), flags=LOG)
    guest.write(SPARE, b"host")
    guest.trace()
    assert SPARE >> 12 not in dirty(guest)


def test_the_log_can_be_switched_on_later(start):
    guest = start(REAL, asm("again: inc byte ptr [SPARE]; mov dx, 0x123; out dx, al; jmp again"))
    guest.cpu.run()
    guest.slot(0, 0, RAM_SIZE, LOG, guest.ram)
    assert SPARE >> 12 not in dirty(guest)
    guest.cpu.run()
    assert SPARE >> 12 in dirty(guest)


def test_a_slot_without_a_log_says_so(vm):
    vm.slot(0, 0, 4096)
    with pytest.raises(KvmError) as refusal:
        dirty(vm, pages=1)
    assert refusal.value.errno == errno.ENOENT


def test_page_walks_log_the_tables_only_when_they_change(start):
    guest = start(LONG, asm("mov byte ptr [DATA], 1; hlt"), flags=LOG)
    guest.trace()
    assert DATA >> 12 in dirty(guest)
    assert guest.page(DATA) & 0x60 == 0x60  # accessed and dirty: the walk wrote to the table


def test_the_log_of_a_page_in_64_is_in_the_right_word(start):
    guest = start(PROTECTED, asm32("mov byte ptr [0x100000 + 65 * 4096], 1; hlt"))
    guest.slot(1, 0x100000, 130 * 4096, LOG)
    guest.trace()
    assert dirty(guest, slot=1, pages=130) == {65}


def test_clearing_by_hand(start):
    guest = start(PROTECTED, asm32("mov byte ptr [0x100000], 1; mov byte ptr [0x141000], 1; hlt"))
    if not guest.has(k.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2):
        pytest.skip("no KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2")
    guest.enable(k.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 1)
    guest.slot(1, 0x100000, 128 * 4096, LOG)
    guest.trace()
    assert dirty(guest, 1, 128) == dirty(guest, 1, 128) == {0, 65}  # reading does not clear any more
    bitmap = ffi.new("uint64_t[1]", [1])
    clear = struct("kvm_clear_dirty_log", slot=1, num_pages=64, first_page=0, dirty_bitmap=bitmap)
    guest.ioctl(io.KVM_CLEAR_DIRTY_LOG, clear)
    assert dirty(guest, 1, 128) == {65}
