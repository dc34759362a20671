"""Device memory: accesses to where no slot lies, and writes to read-only slots, become MMIO exits.

The engine stopped exactly before such an access. We step that one instruction with the page behind a window
(native/device_window.c): once to learn what it reads, and again with the answers. A device of the in-kernel irqchip
answers at once; all others answer through userspace.

Source: KVM API, "5. The kvm_run structure", KVM_EXIT_MMIO: "len" is at most 8, larger accesses come in pieces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from minivmm.soft.binding import ffi, lib
from minivmm.soft.engine import ANSWER, ASK, NO_WINDOW, Stop
from minivmm.soft.processor import PAGE, GuestFault, Processor

LARGEST = 8  # bytes in one exit


@dataclass(frozen=True)
class Access:
    """One exit's worth. `data` is what a write carries, None for a read."""

    gpa: int
    size: int
    data: bytes | None = None


class Internal(Protocol):
    """Devices that answer without leaving KVM_RUN."""

    def claims(self, gpa: int) -> bool: ...
    def read(self, gpa: int, size: int) -> bytes: ...
    def write(self, gpa: int, data: bytes) -> bool: ...  # False: not taken


class DeviceMemory:
    """The device accesses of one vCPU. `waiting` are those that userspace has yet to see."""

    def __init__(self, cpu: Processor) -> None:
        self.cpu = cpu
        self.waiting: deque[Access] = deque()
        self._answers: list[tuple[int, bytes]] = []
        self._pages: list[tuple[int, int]] = []  # linear and guest-physical addresses of the pages in the window
        self._busy = False
        self._element = LARGEST  # how wide the instruction's accesses are, in bytes

    @property
    def unfinished(self) -> bool:
        """Whether an instruction waits for answers."""
        return self._busy

    def forget(self) -> None:
        """Drops an instruction that waits: the registers were set anew."""
        self._busy = False
        self._answers.clear()
        self._pages.clear()

    def begin(self, internal: Internal) -> int | None:
        """Takes up the instruction that the engine stopped before (Stop.DEVICE). See `go_on`."""
        native = self.cpu.cpu
        self._pages.append((native.fault_va & ~(PAGE - 1), native.fault_gpa & ~(PAGE - 1)))
        self._busy = True
        if self._ask(internal):
            return None
        return self.go_on(internal)

    def answer(self, data: bytes) -> None:
        """Userspace answered the read in front."""
        access = self.waiting.popleft()
        self._answers.append((access.gpa, data))

    def go_on(self, internal: Internal) -> int | None:
        """Carries the instruction out with the answers there are.

        Afterwards `waiting` holds what userspace must see. Returns None where the instruction needs more of userspace;
        Stop.STEPPED where it is done; another `Stop` where it went elsewhere, to an exception, say: nothing of it
        counts then.
        """
        while True:
            native, before = self.cpu.cpu, bytes(ffi.buffer(self.cpu.look()))
            native.answer_count, native.element = 0, self._element
            for (gpa, data), answer in zip(self._answers, native.answers, strict=False):
                answer.gpa, answer.size, answer.value = gpa, len(data), int.from_bytes(data, "little")
                native.answer_count += 1
            retired = native.retired
            reason = self._step(ANSWER)
            if reason == Stop.DEVICE and len(self._pages) < 2:
                self._pages.append((native.fault_va & ~(PAGE - 1), native.fault_gpa & ~(PAGE - 1)))
                continue
            if native.window_missed:
                ffi.buffer(self.cpu.env)[:] = before
                lib.soft_put(self.cpu.cpu)
                native.retired = retired
                missed = native.accesses[native.access_count - 1]
                if self._take_reads([Access(missed.gpa, max(missed.size, self._element))], internal):
                    return None
                continue
            writes = _writes(native, self._element)
            self.forget()
            if reason != Stop.STEPPED:
                return int(reason)
            for access in writes:
                assert access.data is not None
                if not internal.write(access.gpa, access.data):
                    self.waiting.append(access)
            return Stop.STEPPED

    def _ask(self, internal: Internal) -> bool:
        """Learns what the instruction does first, and how wide it is. True where userspace has to answer it."""
        self._step(ASK)
        native = self.cpu.cpu
        if not native.access_count:
            return False
        first = native.accesses[0]
        self._element = first.size
        if first.is_write:
            if first.gpa % PAGE == 0:  # perhaps the second part of a write, which comes in single bytes
                self._element = self._rest_of(self._pages[0][0], first.size)
            return False
        return self._take_reads(self._reads(first.gpa, first.size), internal)

    def _reads(self, gpa: int, size: int) -> list[Access]:
        """One read, as exits: cut where a page ends."""
        va = self._pages[0][0] + gpa % PAGE
        here = min(size, PAGE - gpa % PAGE)
        if gpa % PAGE == 0:
            here = self._rest_of(va, size)
        reads = [Access(gpa, here)]
        if here < size and gpa % PAGE:
            with suppress(GuestFault):  # the other page will fault by itself
                beyond = self.cpu.translate(va + here, user=self.cpu.cpl == 3)
                if self.cpu.memory.slot_at(beyond) is None:
                    reads.append(Access(beyond, size - here))
        return reads

    def _rest_of(self, va: int, size: int) -> int:
        """How much of a read lies from `va` on, where it may have begun on the page before: the engine doesn't say."""
        env, bits = self.cpu.look(), self.cpu.bits
        if not self._is_memory(va - 1):
            return size
        for operand in self.cpu.decode(self.cpu.fetch()).operands:
            start = operand.linear(env, bits)
            if start < va < start + operand.size:
                return start + operand.size - va
        return size

    def _is_memory(self, va: int) -> bool:
        try:
            return self.cpu.memory.slot_at(self.cpu.translate(va, user=self.cpu.cpl == 3)) is not None
        except GuestFault:
            return False

    def _take_reads(self, wanted: list[Access], internal: Internal) -> bool:
        for access in wanted:
            if internal.claims(access.gpa):
                self._answers.append((access.gpa, internal.read(access.gpa, access.size)))
            else:
                self.waiting.append(access)
        return bool(self.waiting)

    def _step(self, window: int) -> int:
        native = self.cpu.cpu
        native.window, native.window_missed, native.access_count = window, 0, 0
        native.window_count = len(self._pages)
        for i, (va, gpa) in enumerate(self._pages):
            native.window_vas[i], native.window_gpas[i] = va, gpa
        lib.soft_flush_tlb(native)
        reason = int(lib.soft_step(native))
        native.window = NO_WINDOW
        lib.soft_flush_tlb(native)
        return reason


def _writes(native: Any, element: int) -> list[Access]:
    """What the instruction wrote, in order, as exits. The engine makes small pieces of wide and unaligned writes; here
    they are put together again, and cut as wide as the instruction's accesses are, and where a page ends."""
    runs: list[tuple[int, bytes]] = []
    for i in range(native.access_count):
        entry = native.accesses[i]
        if not entry.is_write:
            continue
        data = int(entry.value & (1 << 8 * entry.size) - 1).to_bytes(entry.size, "little")
        if runs and runs[-1][0] + len(runs[-1][1]) == entry.gpa:
            runs[-1] = runs[-1][0], runs[-1][1] + data
        else:
            runs.append((entry.gpa, data))
    return [Access(gpa, len(data), data) for start, run in runs for gpa, data in _cut(start, run, element)]


def _cut(gpa: int, data: bytes, element: int) -> Iterator[tuple[int, bytes]]:
    left = element
    while data:
        piece = min(left, LARGEST, PAGE - gpa % PAGE, len(data))
        yield gpa, data[:piece]
        gpa, data, left = gpa + piece, data[piece:], left - piece or element
