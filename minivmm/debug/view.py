"""Guest memory as the guest's own code sees it: by linear address, through its page tables.

Everything here only looks. An address that can't be reached is an answer, not an exception.
"""

from __future__ import annotations

from dataclasses import dataclass

from minivmm.x86.paging import Walk, translate
from minivmm.x86.state import MemoryLike, SregsLike

PAGE = 4096


class UnreachableError(ValueError):
    """A linear address that has no page, or whose page lies where the VM has no memory; the text says which."""


@dataclass(frozen=True)
class Reach:
    """Where a linear address leads: the walk, and whether the VM has memory at its end."""

    walk: Walk
    has_memory: bool

    @property
    def problem(self) -> str:
        """Why the address can't be used, as the end of a sentence that starts with the address; "" where it can."""
        if self.walk.fault is not None:
            return f"which the page tables do not translate ({self.walk.fault.reason})"
        if not self.has_memory:
            place = "" if self.walk.physical == self.walk.virtual else f", guest-physical {self.walk.physical:#x}"
            return f"where the VM has no memory slot{place}"
        return ""


class View:
    """The memory of a vCPU in state `sregs`. It reads as a kernel does; see `reach` for other kinds of access."""

    def __init__(self, memory: MemoryLike, sregs: SregsLike, rflags: int = 2) -> None:
        self.memory = memory
        self.sregs = sregs
        self.rflags = rflags

    def reach(self, linear: int, *, write: bool = False, user: bool = False, fetch: bool = False) -> Reach:
        """Follows one access to the end."""
        walk = translate(
            self.memory, self.sregs, linear, write=write, user=user, fetch=fetch, rflags=self.rflags
        )  # fmt: skip
        return Reach(walk, walk.physical is not None and self.has_memory(walk.physical))

    def has_memory(self, gpa: int) -> bool:
        try:
            return bool(self.memory.read(gpa, 1))
        except ValueError:
            return False

    def read(self, linear: int, size: int) -> bytes:
        """`size` bytes at a linear address. Raises UnreachableError."""
        data = self.read_some(linear, size)
        if len(data) < size:
            at = linear + len(data)
            raise UnreachableError(f"{at:#x}, {self.reach(at).problem}")
        return data

    def write(self, linear: int, data: bytes) -> None:
        """Never: a failed guest is looked at, not touched."""
        raise UnreachableError("this view of guest memory is read-only")

    def read_some(self, linear: int, size: int, *, fetch: bool = False, user: bool = False) -> bytes:
        """The bytes from `linear` on, fewer than `size` where it becomes unreachable before."""
        found = b""
        while len(found) < size:
            at = linear + len(found)
            try:
                walk = self.reach(at, fetch=fetch, user=user).walk
                if walk.physical is None:
                    break
                found += self.memory.read(walk.physical, min(size - len(found), PAGE - at % PAGE))
            except ValueError:  # a hole, or beyond the last address there is
                break
        return found
