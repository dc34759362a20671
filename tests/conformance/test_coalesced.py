"""Coalesced I/O: writes that wait in a ring until something else makes an exit.

Source: KVM API, KVM_REGISTER_COALESCED_MMIO.
"""

from __future__ import annotations

import pytest
from rig import HLT, LONG, Load, Out, Store, asm64
from rig.layout import HOLE

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls as io
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct

CODE = asm64("""
    mov ebx, HOLE; mov eax, 5; mov [rbx], al; inc eax; mov [rbx + 8], eax; mov dx, 0x123; out dx, al; mov al, [rbx]; hlt
""")  # fmt: skip


class Ring:
    """The ring that lies behind the vCPU's kvm_run."""

    def __init__(self, guest, page):
        self.memory = guest.cpu.page.page[page * 4096 : (page + 1) * 4096]
        self.ring = ffi.cast("struct kvm_coalesced_mmio_ring *", ffi.from_buffer(self.memory))

    def take(self):
        """What waits in it, as events."""
        size = (4096 - ffi.sizeof("struct kvm_coalesced_mmio_ring")) // ffi.sizeof("struct kvm_coalesced_mmio")
        events = []
        while self.ring.first != self.ring.last:
            entry = self.ring.coalesced_mmio[self.ring.first]
            value = int.from_bytes(bytes(entry.data)[: entry.len], "little")
            events.append((Out if entry.pio else Store)(entry.phys_addr, entry.len, value))
            self.ring.first = (self.ring.first + 1) % size
        return events


def zone(guest, addr, size, pio=0, request=io.KVM_REGISTER_COALESCED_MMIO):
    guest.ioctl(request, struct("kvm_coalesced_mmio_zone", addr=addr, size=size, pio=pio))


@pytest.fixture
def coalesced(start):
    def make(code):
        guest = start(LONG, code)
        page = guest.has(k.KVM_CAP_COALESCED_MMIO)
        if not page:
            pytest.skip("no KVM_CAP_COALESCED_MMIO")
        return guest, Ring(guest, page)

    return make


def test_writes_wait_and_reads_exit(coalesced):
    guest, ring = coalesced(CODE)
    zone(guest, HOLE, 0x1000)
    assert guest.trace([1]) == [Out(0x123, 1, 6), Load(HOLE, 1), HLT]
    assert ring.take() == [Store(HOLE, 1, 5), Store(HOLE + 8, 4, 6)]


def test_a_zone_can_be_taken_back(coalesced):
    guest, ring = coalesced(CODE)
    zone(guest, HOLE, 0x1000)
    zone(guest, HOLE, 0x1000, request=io.KVM_UNREGISTER_COALESCED_MMIO)
    assert guest.trace()[0] == Store(HOLE, 1, 5)
    assert ring.take() == []


def test_what_lies_outside_exits(coalesced):
    guest, ring = coalesced(CODE)
    zone(guest, HOLE, 4)
    assert guest.trace()[0] == Store(HOLE + 8, 4, 6)
    assert ring.take() == [Store(HOLE, 1, 5)]


def test_a_full_ring_exits(coalesced):
    guest, ring = coalesced(asm64("mov ebx, HOLE; mov ecx, 500; again: mov [rbx], ecx; loop again; hlt"))
    zone(guest, HOLE, 0x1000)
    seen = []
    while True:
        exit = guest.cpu.run()
        seen += ring.take()
        if exit.name != "KVM_EXIT_MMIO":
            break
        seen.append(Store(exit.address, exit.size, int.from_bytes(exit.data, "little")))
    assert seen == [Store(HOLE, 4, count) for count in range(500, 0, -1)]


def test_ports(coalesced):
    guest, ring = coalesced(asm64("mov dx, 0x200; mov al, 1; out dx, al; mov eax, 2; out dx, eax; in al, dx; hlt"))
    if not guest.has(k.KVM_CAP_COALESCED_PIO):
        pytest.skip("no KVM_CAP_COALESCED_PIO")
    zone(guest, 0x200, 4, pio=1)
    assert guest.cpu.run().name == "KVM_EXIT_IO"
    assert ring.take() == [Out(0x200, 1, 1), Out(0x200, 4, 2)]
