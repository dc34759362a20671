"""Coalesced I/O: writes that wait in a ring until something else makes an exit.

Source: KVM API 4.116 KVM_(UN)REGISTER_COALESCED_MMIO.
"""

from __future__ import annotations

import errno

import pytest
from rig import HLT, LONG, Load, Out, Store, asm64
from rig.layout import DATA, HOLE

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls as io
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct
from minivmm.kvm.errors import KvmError

CODE = asm64("""
    mov ebx, HOLE; mov eax, 5; mov [rbx], al; inc eax; mov [rbx + 8], eax; mov dx, 0x123; out dx, al; mov al, [rbx]; hlt
""")  # fmt: skip


class Ring:
    """The ring that lies behind the vCPU's kvm_run."""

    def __init__(self, cpu, page):
        self.memory = cpu.page.page[page * 4096 : (page + 1) * 4096]
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
        return guest, Ring(guest.cpu, page)

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


def test_string_output_waits_item_by_item(coalesced):
    guest, ring = coalesced(
        asm64("mov esi, DATA; mov ecx, 3; mov dx, 0x200; rep outsw; mov dx, 0x123; out dx, al; hlt")
    )
    guest.write(DATA, bytes(range(1, 7)))
    zone(guest, 0x200, 2, pio=1)
    assert guest.trace() == [Out(0x123, 1, 0), HLT]
    assert ring.take() == [Out(0x200, 2, 0x0201), Out(0x200, 2, 0x0403), Out(0x200, 2, 0x0605)]


def test_a_string_in_memory_waits_too(coalesced):
    guest, ring = coalesced(asm64("mov edi, HOLE + 2; mov eax, 0x1234; mov ecx, 2; rep stosw; hlt"))
    zone(guest, HOLE, 0x1000)
    assert guest.trace() == [HLT]
    assert ring.take() == [Store(HOLE + 2, 2, 0x1234), Store(HOLE + 4, 2, 0x1234)]


def test_a_write_that_leaves_its_zone_exits(coalesced):
    guest, ring = coalesced(asm64("mov dx, 0x201; mov al, 1; out dx, al; out dx, eax; hlt"))
    zone(guest, 0x200, 4, pio=1)
    assert guest.trace() == [Out(0x201, 4, 1), HLT]
    assert ring.take() == [Out(0x201, 1, 1)]


def test_ports_and_memory_are_two_spaces(coalesced):
    guest, ring = coalesced(asm64("mov dx, 0x200; out dx, al; hlt"))
    zone(guest, 0x200, 4)
    assert guest.trace() == [Out(0x200, 1, 0), HLT]
    assert ring.take() == []


def test_taking_back_a_part_takes_back_the_whole_zone(coalesced):
    guest, ring = coalesced(CODE)
    zone(guest, HOLE, 0x1000)
    zone(guest, HOLE + 0x800, 4, request=io.KVM_UNREGISTER_COALESCED_MMIO)
    assert guest.trace()[0] == Store(HOLE, 1, 5)
    zone(guest, HOLE, 0x1000, request=io.KVM_UNREGISTER_COALESCED_MMIO)  # nothing is there, and that is no error
    assert ring.take() == []


def test_there_are_but_two_kinds_of_zones(coalesced):
    guest, _ = coalesced(CODE)
    for request in io.KVM_REGISTER_COALESCED_MMIO, io.KVM_UNREGISTER_COALESCED_MMIO:
        with pytest.raises(KvmError) as refused:
            zone(guest, HOLE, 0x1000, pio=2, request=request)
        assert refused.value.errno == errno.EINVAL


@pytest.mark.parametrize("last", [170, 0xFFFF_FFFF])
def test_an_index_that_is_none_exits(coalesced, last):
    guest, ring = coalesced(CODE)
    zone(guest, HOLE, 0x1000)
    ring.ring.last = last
    assert guest.trace()[0] == Store(HOLE, 1, 5)
    assert ring.ring.last == last


def test_the_vcpus_of_a_vm_have_one_ring(coalesced):
    guest, ring = coalesced(asm64("mov ebx, HOLE; mov [rbx], al; hlt"))
    second = guest.add_cpu()
    guest.place(second, rax=7)
    zone(guest, HOLE, 0x1000)
    assert second.trace() == [HLT]
    assert guest.trace() == [HLT]
    assert ring.take() == [Store(HOLE, 1, 7), Store(HOLE, 1, 0)]
    other = Ring(second, guest.has(k.KVM_CAP_COALESCED_MMIO))
    assert (other.ring.first, other.ring.last) == (2, 2)
