"""Breakpoints and watchpoints: the four debug registers first, then 0xCC in the code.

A debug register is the better breakpoint: it leaves the code as it is, works in ROM, and works where a hypervisor
cannot take an INT3. There are four. What gdb calls a software breakpoint gets one too while there are any.

Source: SDM vol. 3, "Debug Registers" (DR7) and "Debug Status Register (DR6)"; KVM API 4.87 KVM_SET_GUEST_DEBUG.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from minivmm.debug.gdb.memory import VirtualMemory
from minivmm.debug.gdb.model import Abilities
from minivmm.kvm import constants as k
from minivmm.x86.state import MemoryLike

INT3 = b"\xcc"
SLOTS = 4
DR7_FIXED = 0x600  # bit 10 is always set; GE (bit 9) asks for exact data breakpoints
BREAKPOINT, DEBUG = 3, 1  # vectors


class Kind(IntEnum):
    """The number after Z and z in the protocol."""

    SOFTWARE = 0
    HARDWARE = 1
    WRITE = 2
    READ = 3
    ACCESS = 4


RW = {Kind.SOFTWARE: 0b00, Kind.HARDWARE: 0b00, Kind.WRITE: 0b01, Kind.ACCESS: 0b11}  # DR7.R/W
LEN = {1: 0b00, 2: 0b01, 8: 0b10, 4: 0b11}  # DR7.LEN


class NoPointError(ValueError):
    """A point that can't be had; the text says why."""


class UnsupportedError(ValueError):
    """A kind of point that this machine has none of: gdb then tries another way."""


@dataclass(frozen=True)
class Point:
    """What gdb asked for: `size` bytes at the virtual `address`."""

    kind: Kind
    address: int
    size: int


class Points:
    """All points of a machine: they hold for every vCPU."""

    def __init__(self, memory: MemoryLike, abilities: Abilities) -> None:
        self._memory = memory
        self._abilities = abilities
        self._slots: list[tuple[Point, int, int]] = []  # point, address, size: at most four
        self._patches: dict[int, tuple[Point, int]] = {}  # by guest-physical address: point, the byte that was there

    def insert(self, point: Point, memory: VirtualMemory) -> None:
        """Sets a point; one that is set already stays. Raises NoPointError, UnsupportedError, NoMemoryError."""
        if point in [one for one, *_ in self._slots] or point in [one for one, _ in self._patches.values()]:
            return
        able = self._abilities
        if point.kind is Kind.READ:
            raise UnsupportedError("x86 watches writes, or reads and writes")
        if point.kind in (Kind.WRITE, Kind.ACCESS):
            if not able.watch:
                raise NoPointError("this host's KVM has no watchpoints; minivmm run --accel soft may have them")
            self._take_slots(point, list(_aligned(point)))
        elif able.hardware and len(self._slots) < SLOTS:
            self._take_slots(point, [(point.address, 1)])
        elif point.kind is Kind.SOFTWARE and able.software:
            self._patch(point, memory)
        elif able.hardware:
            more = "" if able.software else ", and this host's KVM takes no 0xCC breakpoints"
            raise NoPointError(f"all four debug registers are in use{more}: delete a breakpoint first")
        else:  # not the empty answer: gdb would write an 0xCC itself, and the guest would die of it
            raise NoPointError("this host's KVM has no breakpoints: use stepi, or minivmm run --accel soft")

    def remove(self, point: Point) -> None:
        """Takes a point away; one that isn't there doesn't matter."""
        self._slots = [slot for slot in self._slots if slot[0] != point]
        for gpa, (other, original) in list(self._patches.items()):
            if other == point:
                del self._patches[gpa]
                self._memory.write(gpa, bytes((original,)))

    def clear(self) -> None:
        """Takes all points away."""
        for point in [one for one, *_ in self._slots] + [one for one, _ in self._patches.values()]:
            self.remove(point)

    def _take_slots(self, point: Point, parts: list[tuple[int, int]]) -> None:
        if len(self._slots) + len(parts) > SLOTS:
            raise NoPointError("the four debug registers can't hold it: delete a breakpoint or watch less")
        self._slots += [(point, address, size) for address, size in parts]

    def _patch(self, point: Point, memory: VirtualMemory) -> None:
        gpa = memory.physical(point.address)
        original = self._memory.read(gpa, 1)
        self._memory.write(gpa, INT3)
        self._patches[gpa] = (point, original[0])

    # ---- what KVM is told, and what it tells ----

    def control(self, *, step: bool) -> tuple[int, list[int]]:
        """The control word and DR0–DR7 for KVM_SET_GUEST_DEBUG."""
        control, registers = 0, [0] * 8
        if step:
            control |= k.KVM_GUESTDBG_SINGLESTEP
            # Otherwise a step ends, more often than not, in the handler of an interrupt that was waiting.
            control |= k.KVM_GUESTDBG_BLOCKIRQ if self._abilities.block_interrupts else 0
        if self._patches:
            control |= k.KVM_GUESTDBG_USE_SW_BP
        if self._slots:
            control |= k.KVM_GUESTDBG_USE_HW_BP
            registers[7] = DR7_FIXED
        for number, (point, address, size) in enumerate(self._slots):
            registers[number] = address
            registers[7] |= 2 << 2 * number | (LEN[size] << 2 | RW[point.kind]) << 16 + 4 * number
        return (control | k.KVM_GUESTDBG_ENABLE if control else 0), registers

    def hit(self, exception: int, linear_pc: int, dr6: int) -> Point | None:
        """The point that a debug exit is about; None for a step, or for what is none of ours."""
        if exception == BREAKPOINT:
            return next((point for point, _ in self._patches.values() if point.address == linear_pc), None)
        return next((point for n, (point, *_) in enumerate(self._slots) if dr6 >> n & 1), None)

    # ---- memory as it would be without the patches ----

    def hidden(self, gpa: int, data: bytes) -> bytes:
        """`data`, read at `gpa`, with the original bytes in the place of ours."""
        shown = bytearray(data)
        for at, (_, original) in self._patches.items():
            if gpa <= at < gpa + len(data):
                shown[at - gpa] = original
        return bytes(shown)

    def kept(self, gpa: int, data: bytes) -> bytes:
        """`data`, to be written at `gpa`, with our 0xCC kept in it; its bytes become the originals."""
        kept = bytearray(data)
        for at, (point, _) in self._patches.items():
            if gpa <= at < gpa + len(data):
                self._patches[at] = (point, kept[at - gpa])
                kept[at - gpa] = INT3[0]
        return bytes(kept)


def _aligned(point: Point) -> list[tuple[int, int]]:
    """The pieces of a range that debug registers can watch: 1, 2, 4 or 8 bytes at a multiple of their size."""
    pieces: list[tuple[int, int]] = []
    at, end = point.address, point.address + point.size
    while at < end and len(pieces) <= SLOTS:
        size = next(size for size in (8, 4, 2, 1) if at % size == 0 and at + size <= end)
        pieces.append((at, size))
        at += size
    return pieces
