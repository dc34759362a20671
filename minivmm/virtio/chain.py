"""A descriptor chain: what the guest hands to a device with one index.

The chain is a linked list in guest memory, and another vCPU may change it while we walk. So each descriptor is read
exactly once, and every field is checked before it is used: this is where a hostile guest would break out.

Source: virtio 1.2, 2.7.4 "Message Framing", 2.7.5 "The Virtqueue Descriptor Table", 2.7.5.3 "Indirect Descriptors".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from minivmm.virtio.buffers import gather
from minivmm.virtio.errors import DriverError
from minivmm.virtio.guest_memory import GuestMemory, views

NEXT, WRITE, INDIRECT = 1, 2, 4
DESCRIPTOR = Struct("<QIHH")  # addr, len, flags, next
read_descriptor = DESCRIPTOR.unpack_from
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
    runs: list[tuple[int, int, int]] = []  # start, end, WRITE or 0
    total = start = end = writable = 0
    for address, length, write in _descriptors(memory, table, head, longest, indirect):
        total += length
        if not length or total > MAX_BYTES:
            raise DriverError(f"a buffer has {length} bytes, its chain {total}: from 1 to 2^32 are allowed")
        if writable and not write:
            raise DriverError("a device-readable buffer comes after a device-writable one")
        if address == end and write == writable:
            end += length  # pages often lie side by side, and one long buffer is quicker than many short ones
        else:
            runs.append((start, end, writable))
            start, end, writable = address, address + length, write
    runs.append((start, end, writable))
    chain = Chain(head, [], [])
    for start, end, writable in runs:
        if writable:
            chain.writable += views(memory, start, end - start, writable=True)
        else:
            chain.readable += views(memory, start, end - start, writable=False)
    return chain


def _descriptors(
    memory: GuestMemory, table: memoryview, at: int, longest: int, indirect: bool
) -> Iterator[tuple[int, int, int]]:
    """The address, length and WRITE flag of each descriptor of a chain. Every one is read once."""
    head, left, nested, entries = at, longest, False, len(table) // DESCRIPTOR.size
    while True:
        if at >= entries:
            raise DriverError(f"descriptor {at} is beyond the table of {entries}")
        address, length, flags, following = read_descriptor(table, at * DESCRIPTOR.size)
        if flags & INDIRECT:
            if not indirect or nested or flags & NEXT:
                raise DriverError(_why_not_indirect(indirect, nested))
            # 2.7.5.3.2: the WRITE flag of this descriptor means nothing.
            table = _indirect_table(memory, address, length)
            at, nested, entries = 0, True, len(table) // DESCRIPTOR.size
            continue
        left -= 1
        if left < 0:
            # "loops in the descriptor chain are forbidden" (2.7.5.2), and this is how a loop is noticed.
            raise DriverError(f"the chain from descriptor {head} is longer than {longest} descriptors, or a loop")
        yield address, length, flags & WRITE
        if not flags & NEXT:
            return
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
