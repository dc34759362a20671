"""A descriptor chain: what the guest hands to a device with one index.

The chain is a linked list in guest memory, and another vCPU may change it while we walk. So each descriptor is read
exactly once, and every field is checked before it is used: this is where a hostile guest would break out.

Source: virtio 1.2, 2.7.4 "Message Framing", 2.7.5 "The Virtqueue Descriptor Table", 2.7.5.3 "Indirect Descriptors".
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from minivmm.virtio.buffers import gather
from minivmm.virtio.errors import DriverError
from minivmm.virtio.guest_memory import GuestMemory, views

NEXT, WRITE, INDIRECT = 1, 2, 4
DESCRIPTOR = Struct("<QIHH")  # addr, len, flags, next
MAX_BYTES = 1 << 32
REACHABLE = 1 << 16  # `next` is a 16-bit index: whatever a longer table holds, nothing can point to it


@dataclass(slots=True)
class Chain:
    """One request. `readable` comes from the guest, `writable` is for the answer; both are the guest's own memory.

    The guest may still write to `readable`: copy what you check (`gather`), then use the copy.
    """

    head: int
    readable: list[memoryview]
    writable: list[memoryview]


def walk(memory: GuestMemory, table: memoryview, head: int, *, longest: int, indirect: bool) -> Chain:
    """Follows the chain that starts at descriptor `head` of `table`.

    `longest` is how many descriptors it may have, `indirect` whether VIRTIO_F_INDIRECT_DESC was negotiated. Raises
    DriverError, which names the rule, for a chain that breaks one.
    """
    chain = Chain(head, [], [])
    at, count, total, nested = head, 0, 0, False
    while True:
        if at >= len(table) // DESCRIPTOR.size:
            raise DriverError(f"descriptor {at} is beyond the table of {len(table) // DESCRIPTOR.size}")
        address, length, flags, following = DESCRIPTOR.unpack_from(table, at * DESCRIPTOR.size)
        if flags & INDIRECT:
            if not indirect or nested or flags & NEXT:
                raise DriverError(_why_not_indirect(indirect, nested))
            # 2.7.5.3.2: the WRITE flag of this descriptor means nothing.
            table, at, nested = _indirect_table(memory, address, length), 0, True
            continue
        count += 1
        if count > longest:
            # "loops in the descriptor chain are forbidden" (2.7.5.2), and this is how a loop is noticed.
            raise DriverError(f"the chain from descriptor {head} is longer than {longest} descriptors, or a loop")
        total += length
        if not length or total > MAX_BYTES:
            raise DriverError(f"descriptor {at} has {length} bytes, the chain {total}: from 1 to 2^32 are allowed")
        if flags & WRITE:
            chain.writable += views(memory, address, length, writable=True)
        elif chain.writable:
            raise DriverError(f"descriptor {at} is device-readable and comes after a device-writable one")
        else:
            chain.readable += views(memory, address, length, writable=False)
        if not flags & NEXT:
            return chain
        at = following


def _indirect_table(memory: GuestMemory, address: int, length: int) -> memoryview:
    if not length or length % DESCRIPTOR.size:
        raise DriverError(f"an indirect table has {length} bytes: descriptors have {DESCRIPTOR.size} each")
    pieces = views(memory, address, min(length, REACHABLE * DESCRIPTOR.size), writable=False)
    return pieces[0] if len(pieces) == 1 else memoryview(gather(pieces))


def _why_not_indirect(negotiated: bool, nested: bool) -> str:
    if not negotiated:
        return "a descriptor is indirect, and VIRTIO_F_INDIRECT_DESC was not negotiated"
    if nested:
        return "an indirect table holds another indirect descriptor"
    return "a descriptor has both VIRTQ_DESC_F_INDIRECT and VIRTQ_DESC_F_NEXT"
