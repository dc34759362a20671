"""ELF executables: segments that bring their own addresses.

Source: ELF-64 Object File Format, "Program header table"; System V ABI, "Note Section".
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from minivmm.boot.errors import BadImageError
from minivmm.boot.placing import put
from minivmm.memory import GuestMemory

MAGIC = b"\x7fELF"


@dataclass(frozen=True)
class Segment:
    """A PT_LOAD segment: `data` goes to guest-physical `gpa`, zeros follow up to `size` bytes in all."""

    gpa: int
    virtual: int
    size: int
    data: memoryview

    @property
    def end(self) -> int:
        return self.gpa + self.size


@dataclass(frozen=True)
class Elf:
    """An x86 executable linked at fixed addresses. `entry` is a virtual address, as the file has it."""

    bits: int
    entry: int
    segments: tuple[Segment, ...]
    note_segments: tuple[memoryview, ...]

    @property
    def physical_entry(self) -> int:
        """Where `entry` is loaded: for a kernel whose virtual addresses are not its physical ones."""
        for segment in self.segments:
            if segment.virtual <= self.entry < segment.virtual + segment.size:
                return self.entry - segment.virtual + segment.gpa
        return self.entry

    @property
    def start(self) -> int:
        return min(segment.gpa for segment in self.segments)

    @property
    def end(self) -> int:
        return max(segment.end for segment in self.segments)

    def notes(self) -> Iterator[tuple[bytes, int, bytes]]:
        """Name, type and contents of each note; what is damaged is left out."""
        for data in self.note_segments:
            at = 0
            while at + 12 <= len(data):
                name_size, size, kind = struct.unpack_from("<III", data, at)
                contents = at + 12 + (name_size + 3 & ~3)
                if contents + size > len(data):
                    break
                name = bytes(data[at + 12 : at + 12 + name_size]).rstrip(b"\0")
                yield name, kind, bytes(data[contents : contents + size])
                at = contents + (size + 3 & ~3)


def parse(image: bytes) -> Elf:
    """Reads an ELF file. Raises BadImageError where it is damaged, truncated, or not for this processor."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    view = memoryview(image)  # slices of it are no copies, and a kernel may have 60 MB
    try:
        elf = ELFFile(io.BytesIO(image))
        kind, cpu, entry = elf["e_type"], elf["e_machine"], elf["e_entry"]
        headers = list(elf.iter_segments())
        contents = [view[each["p_offset"] : each["p_offset"] + each["p_filesz"]] for each in headers]
        notes = tuple(data for each, data in zip(headers, contents, strict=True) if each["p_type"] == "PT_NOTE")
        parts = [
            (each["p_filesz"], Segment(each["p_paddr"], each["p_vaddr"], each["p_memsz"], data))
            for each, data in zip(headers, contents, strict=True)
            if each["p_type"] == "PT_LOAD"
        ]
    except (ELFError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise BadImageError(
            f"The ELF file is damaged ({str(error) or type(error).__name__}): build it again."
        ) from None
    if kind != "ET_EXEC" or cpu not in ("EM_386", "EM_X86_64"):
        raise BadImageError(
            f"The ELF file is {kind} for {cpu}: a guest must be an x86 executable linked at fixed addresses."
        )
    if not parts:
        raise BadImageError(
            "The ELF file has no PT_LOAD segment, so there is nothing to load: link it as an executable."
        )
    for size, segment in parts:
        if len(segment.data) != size:
            raise BadImageError("The ELF file is truncated: a segment ends behind the end of the file.")
        if segment.size < size:
            raise BadImageError("The ELF file is damaged: a segment is larger in the file than in memory.")
    return Elf(64 if cpu == "EM_X86_64" else 32, entry, tuple(segment for _, segment in parts), notes)


def load(memory: GuestMemory, segments: Iterable[Segment], what: str = "the ELF file") -> None:
    """Puts every segment in its place. Raises BadImageError where there is no memory for one."""
    room = sum(slot.size for slot in memory.slots)
    for segment in segments:
        if segment.size > room:
            raise BadImageError(
                f"{what[0].upper()}{what[1:]} wants a segment of {segment.size:#x} bytes: "
                "give the guest more with --memory."
            )
        # What a segment has in memory but not in the file is its bss, and starts as zeros.
        put(memory, segment.gpa, segment.data, f"a segment of {what}")
        put(memory, segment.gpa + len(segment.data), bytes(segment.size - len(segment.data)), f"a segment of {what}")
