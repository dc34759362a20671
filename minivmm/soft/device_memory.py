"""Device memory: accesses to where no slot lies, and writes to read-only slots, become MMIO exits.

The engine stopped exactly before such an access. We step that one instruction with the page behind a window
(native/device_window.c): once to learn what it reads, and again with the answers. A device of the in-kernel irqchip
answers at once; all others answer through userspace.

Source: KVM API, "5. The kvm_run structure", KVM_EXIT_MMIO: "len" is at most 8, larger accesses come in pieces.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from minivmm.soft.binding import ffi, lib
from minivmm.soft.engine import ANSWER, ASK, NO_WINDOW, Stop
from minivmm.soft.processor import PAGE, Processor

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
    def write(self, gpa: int, data: bytes) -> None: ...


class DeviceMemory:
    """The device accesses of one vCPU. `waiting` are those that userspace has yet to see."""

    def __init__(self, cpu: Processor) -> None:
        self.cpu = cpu
        self.waiting: deque[Access] = deque()
        self._answers: list[tuple[int, bytes]] = []
        self._pages: list[tuple[int, int]] = []  # linear and guest-physical addresses of the pages in the window
        self._reading = False

    @property
    def unfinished(self) -> bool:
        """Whether an instruction waits for answers."""
        return self._reading

    def forget(self) -> None:
        """Drops an instruction that waits: the registers were set anew."""
        self._reading = False
        self._answers.clear()
        self._pages.clear()

    def begin(self, internal: Internal) -> int | None:
        """Takes up the instruction that the engine stopped before (Stop.DEVICE). See `go_on`."""
        native = self.cpu.cpu
        self._pages.append((native.fault_va & ~(PAGE - 1), native.fault_gpa & ~(PAGE - 1)))
        is_read = native.fault_access == 0
        self._reading = True
        if is_read and self._ask(internal):
            return None
        return self.go_on(internal)

    def answer(self, data: bytes) -> None:
        """Userspace answered the read in front."""
        access = self.waiting.popleft()
        self._answers.append((access.gpa, data))

    def go_on(self, internal: Internal) -> int | None:
        """Carries the instruction out with the answers there are.

        Afterwards `waiting` holds what userspace must see. A `Stop` comes back where the instruction went elsewhere: to
        an exception, say. Then nothing of it counts.
        """
        while True:
            native, before = self.cpu.cpu, bytes(ffi.buffer(self.cpu.look()))
            native.answer_count = 0
            for (gpa, data), answer in zip(self._answers, native.answers, strict=False):
                answer.gpa, answer.size, answer.value = gpa, len(data), int.from_bytes(data, "little")
                native.answer_count += 1
            reason = self._step(ANSWER)
            if reason == Stop.DEVICE and len(self._pages) < 2:
                self._pages.append((native.fault_va & ~(PAGE - 1), native.fault_gpa & ~(PAGE - 1)))
                continue
            if native.window_missed:
                ffi.buffer(self.cpu.env)[:] = before
                lib.soft_put(self.cpu.cpu)
                missed = native.accesses[native.access_count - 1]
                wanted = [Access(missed.gpa, missed.size)]
                if self._take_reads(wanted, internal):
                    return None
                continue
            writes = _writes(native)
            self.forget()
            if reason != Stop.STEPPED:
                return int(reason)
            for access in writes:
                assert access.data is not None
                if internal.claims(access.gpa):
                    internal.write(access.gpa, access.data)
                else:
                    self.waiting.append(access)
            return None

    def _ask(self, internal: Internal) -> bool:
        """Learns what the instruction reads first. True where userspace has to answer it."""
        self._step(ASK)
        native = self.cpu.cpu
        if not native.access_count or native.accesses[0].is_write:
            return False
        first = native.accesses[0]
        return self._take_reads(_pieces(first.gpa, first.size), internal)

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


def _pieces(gpa: int, size: int) -> list[Access]:
    """One access, cut where a page ends and where it is longer than an exit can carry."""
    pieces = []
    while size:
        piece = min(size, LARGEST, PAGE - gpa % PAGE)
        pieces.append(Access(gpa, piece))
        gpa += piece
        size -= piece
    return pieces


def _writes(native: object) -> list[Access]:
    """What the instruction wrote, in order. The engine makes bytes of an unaligned write; here they become one
    again."""
    joined: list[Access] = []
    previous_size = 0
    for i in range(native.access_count):  # type: ignore[attr-defined]
        entry = native.accesses[i]  # type: ignore[attr-defined]
        if not entry.is_write:
            continue
        data = int(entry.value & (1 << 8 * entry.size) - 1).to_bytes(entry.size, "little")
        last = joined[-1] if joined else None
        follows = last is not None and last.gpa + last.size == entry.gpa and last.size < LARGEST
        if last is not None and last.data is not None and follows and entry.size == previous_size == 1:
            joined[-1] = Access(last.gpa, last.size + 1, last.data + data)
        else:
            joined.append(Access(entry.gpa, entry.size, data))
        previous_size = entry.size
    return joined
