"""The ring of coalesced writes, from the kernel's side: KVM's own where it has one, else played as our `soft` plays it.

Source: KVM API 4.116, KVM_REGISTER_COALESCED_MMIO; linux/kvm.h, struct kvm_coalesced_mmio_ring.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minivmm.exits import Exit, MmioWrite, PortOut
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct
from minivmm.kvm.constants import KVM_CAP_COALESCED_MMIO, KVM_CAP_COALESCED_PIO
from minivmm.kvm.ioctls import KVM_REGISTER_COALESCED_MMIO
from minivmm.kvm.run_page import RunPage
from minivmm.soft.coalesced import Zones, put
from minivmm.vm import Vm

PAGE = 4096


def empty_ring() -> Any:
    """A ring that nobody fills but you: a struct kvm_coalesced_mmio_ring *, with a page behind it for mistakes."""
    return ffi.from_buffer("struct kvm_coalesced_mmio_ring *", bytearray(2 * PAGE))


class Ring:
    """The ring of one vCPU, `c` (a struct kvm_coalesced_mmio_ring *), and the zones whose writes go into it.

    `native` says who fills it: this host's KVM, where the caller lets it and it can, or `takes`.
    """

    def __init__(
        self, vm: Vm, page: RunPage, zones: Iterable[range] = (), port_zones: Iterable[range] = (), native: bool = True
    ) -> None:
        places = [*((zone, 0) for zone in zones), *((zone, 1) for zone in port_zones)]
        number = vm.has_cap(KVM_CAP_COALESCED_MMIO)
        ports_too = vm.has_cap(KVM_CAP_COALESCED_PIO)
        self.native = bool(native and places and number and ports_too)
        self._memory = page.page[number * PAGE : (number + 1) * PAGE] if self.native else bytearray(PAGE)
        self.c: Any = ffi.cast("struct kvm_coalesced_mmio_ring *", ffi.from_buffer(self._memory))
        self._played = Zones()
        for zone, pio in places:
            place = struct("kvm_coalesced_mmio_zone", addr=zone.start, size=len(zone), pio=pio)
            if self.native:
                vm.ioctl(KVM_REGISTER_COALESCED_MMIO, place)
            else:
                self._played.register(place)

    def takes(self, exit: Exit) -> bool:
        """Puts a write to a zone into the ring, as KVM does, and says so. A full ring takes none, nor does any take a
        string of several items."""
        match exit:
            case MmioWrite():
                pio, address = False, exit.address
            case PortOut():
                pio, address = True, exit.port
            case _:
                return False
        covered = len(exit.data) == exit.size and self._played.cover(pio, address, exit.size)
        return covered and put(self.c, pio, address, exit.data)
