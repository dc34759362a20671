"""Guest memory without a guest: a few slots of a bytearray, with canaries around and a record of what is touched."""

from __future__ import annotations

from dataclasses import dataclass, field

RAM, RAM_SIZE = 0x10_0000, 0x8_0000  # not at 0, so that a null pointer is an error
HIGH = RAM + RAM_SIZE  # a second slot that touches the first
ROM = 0x20_0000
PAGE = 0x1000
CANARY = 0xA5


class Watched:
    """A slot's memory. Slices of it are views as a device gets them; each is noted, none is cut short."""

    def __init__(self, size: int) -> None:
        self.whole = bytearray(bytes((CANARY,)) * (size + 2 * PAGE))
        self.view = memoryview(self.whole)[PAGE : PAGE + size]
        self.asked: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, key: slice) -> memoryview:
        start, stop = key.start or 0, len(self.view) if key.stop is None else key.stop
        self.asked.append((start, stop))
        assert 0 <= start < stop <= len(self.view), f"an access at {start:#x}–{stop:#x}, outside the slot"
        return self.view[key]


@dataclass
class Slot:
    gpa: int
    size: int
    read_only: bool = False
    data: Watched = field(init=False)

    def __post_init__(self) -> None:
        self.data = Watched(self.size)
        self.data.view[:] = bytes(self.size)

    @property
    def end(self) -> int:
        return self.gpa + self.size


class Guest:
    """RAM in two slots side by side, a ROM further up. What a test reads and writes here isn't recorded."""

    def __init__(self) -> None:
        self.slots = [Slot(RAM, RAM_SIZE), Slot(HIGH, PAGE), Slot(ROM, PAGE, read_only=True)]
        self._free = RAM

    def slot_at(self, gpa: int) -> Slot | None:
        return next((slot for slot in self.slots if slot.gpa <= gpa < slot.end), None)

    def allocate(self, size: int, alignment: int = 16) -> int:
        """The address of `size` fresh bytes of RAM."""
        at = -(-self._free // alignment) * alignment
        self._free = at + size
        assert self._free <= RAM + RAM_SIZE, "the test needs more memory than the guest has"
        return at

    def read(self, gpa: int, size: int) -> bytes:
        found = b""
        while size:
            slot = self.slot_at(gpa)
            assert slot is not None, f"the test itself reads outside memory, at {gpa:#x}"
            piece = bytes(slot.data.view[gpa - slot.gpa :][:size])
            found, gpa, size = found + piece, gpa + len(piece), size - len(piece)
        return found

    def write(self, gpa: int, data: bytes) -> None:
        while data:
            slot = self.slot_at(gpa)
            assert slot is not None, f"the test itself writes outside memory, at {gpa:#x}"
            room = slot.end - gpa
            slot.data.view[gpa - slot.gpa :][: len(data)] = data[:room]
            gpa, data = gpa + room, data[room:]

    def get(self, gpa: int, size: int) -> int:
        return int.from_bytes(self.read(gpa, size), "little")

    def put(self, gpa: int, size: int, value: int) -> None:
        self.write(gpa, value.to_bytes(size, "little"))

    def assert_borders_intact(self) -> None:
        """Nothing was written next to a slot, and nothing into ROM."""
        edge = bytes((CANARY,)) * PAGE
        for slot in self.slots:
            assert slot.data.whole[:PAGE] == edge, f"something was written below {slot.gpa:#x}"
            assert slot.data.whole[-PAGE:] == edge, f"something was written above {slot.end:#x}"
            assert not slot.read_only or not any(slot.data.view), "the ROM was written"
