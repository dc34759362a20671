"""An image, recognised by its content and loaded: ELF, or else flat.

Source: ELF-64 Object File Format, "Program header table".
"""

from __future__ import annotations

import io

from minivmm.boot.layout import FLAT_LOAD, Mode, enter
from minivmm.memory import GuestMemory, GuestMemoryError
from minivmm.vcpu import Vcpu


class BadImageError(ValueError):
    """An image that can't be loaded; the text says what is wrong and what to do."""


def load_image(
    vcpu: Vcpu,
    memory: GuestMemory,
    image: bytes,
    *,
    mode: Mode | None = None,
    load: int | None = None,
    entry: int | None = None,
) -> None:
    """Loads `image` and puts the vCPU at its entry. Raises BadImageError.

    An ELF file brings its own addresses and mode; a flat one is put at `load` (0x1000) and entered there, or at
    `entry`, in `mode` (real).
    """
    if not image:
        raise BadImageError("The image is empty: there is nothing to run.")
    if image.startswith(b"\x7fELF"):
        start, native = _load_elf(memory, image)
        _enter(vcpu, memory, mode or native, start if entry is None else entry)
        return
    if foreign := _foreign(image):
        raise BadImageError(foreign)
    where = FLAT_LOAD if load is None else load
    mode = mode or "real"
    if mode == "real" and where + len(image) > 0x10000:
        raise BadImageError(
            f"A flat image in real mode must end below 64 KiB, and this one ends at {where + len(image):#x}."
        )
    _put(memory, where, image, "the image")
    _enter(vcpu, memory, mode, where if entry is None else entry)


def _enter(vcpu: Vcpu, memory: GuestMemory, mode: Mode, entry: int) -> None:
    try:
        enter(vcpu, memory, mode, entry)
    except GuestMemoryError as error:
        raise BadImageError(f"{mode} mode needs a GDT and page tables in the first MiB, and {error}") from None


def _put(memory: GuestMemory, gpa: int, data: bytes, what: str) -> None:
    try:
        memory.write(gpa, data)
    except GuestMemoryError:
        end = max((slot.end for slot in memory.slots), default=0)
        raise BadImageError(
            f"{what[0].upper()}{what[1:]} needs memory up to {gpa + len(data):#x} and the guest has {end:#x}: "
            "give it more with --memory."
        ) from None


def _load_elf(memory: GuestMemory, image: bytes) -> tuple[int, Mode]:
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        elf = ELFFile(io.BytesIO(image))
        kind, cpu, entry = elf["e_type"], elf["e_machine"], elf["e_entry"]
        segments = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
        parts = [(segment["p_paddr"], segment["p_filesz"], segment["p_memsz"], segment.data()) for segment in segments]
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
    for gpa, filesz, memsz, data in parts:
        if len(data) != filesz:
            raise BadImageError("The ELF file is truncated: a segment ends behind the end of the file.")
        if memsz < filesz:
            raise BadImageError("The ELF file is damaged: a segment is larger in the file than in memory.")
        if memsz > sum(slot.size for slot in memory.slots):
            raise BadImageError(f"The ELF file wants a segment of {memsz:#x} bytes: give the guest more with --memory.")
        # What a segment has in memory but not in the file is its bss, and starts as zeros.
        _put(memory, gpa, data + bytes(memsz - filesz), "a segment of the ELF file")
    return entry, "long" if cpu == "EM_X86_64" else "protected"


def _foreign(image: bytes) -> str:
    """What to say of an image that is surely not a flat guest; "" for any other."""
    if image[:2] == b"MZ" or image[0x202:0x206] == b"HdrS":
        return "This is a Linux kernel or an EFI program: this version runs flat and ELF guests only."
    if image[:2] in (b"\x1f\x8b", b"BZ", b"PK") or image[:6] == b"\xfd7zXZ\x00":
        return "The image is compressed: unpack it first."
    if image[:2] == b"#!":
        return "This is a script, not a guest image."
    return ""
