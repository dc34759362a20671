"""The reference guests: small programs, each with one purpose, that run in a VM and whose output a nonce decides.

    guest = load("hello")
    image = guest.patched(nonce=0x1234, port=0x3F8)        # bytes, ready to be written at guest.load

A guest is a folder: its source, its prebuilt image and a manifest, guest.toml. `make guests` builds the images.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from minivmm import manifest, parameters, resources
from minivmm.manifest import GuestError
from minivmm.parameters import ParameterError

__all__ = ["Guest", "GuestError", "load", "names", "probes", "read"]

Mode = Literal["real", "protected", "long"]


@dataclass(frozen=True)
class Guest:
    """One reference guest. `load` and `entry` are guest-physical addresses; `image` has its default parameters."""

    name: str
    title: str
    mode: Mode
    format: Literal["flat", "elf", "multiboot"]
    load: int
    entry: int
    shows: str
    needs: tuple[str, ...]
    labs: tuple[str, ...]
    parameters: dict[str, str]
    image: bytes
    folder: Path

    @property
    def source(self) -> str:
        """The guest's assembly source, GNU as in Intel syntax."""
        return (self.folder / f"{self.folder.name}.S").read_text(encoding="utf-8")

    @property
    def placement(self) -> dict[str, Any]:
        """What `load_image` must be told of it: nothing, where the image itself says where it goes."""
        if self.format == "multiboot":
            return {}
        return {"mode": self.mode, "load": self.load, "entry": self.entry}

    @property
    def defaults(self) -> dict[str, int]:
        """Every field of the parameter block, by name, as the image has it."""
        return parameters.read(self.image)

    def patched(self, **values: int) -> bytes:
        """The image with its parameter block filled in. Raises GuestError for a name or a value that can't be."""
        for name in values:
            if name not in self.parameters:
                takes = ", ".join(self.parameters) or "none"
                raise GuestError(
                    f"{self.name} takes no parameter {name!r}; it takes {takes}.{_close(name, self.parameters)}"
                )
        try:
            return parameters.write(self.image, values)
        except ParameterError as error:
            raise GuestError(f"{self.name}: {error}") from None


def names() -> list[str]:
    """The names of the guests that the labs use, in alphabetical order."""
    return _folders(resources.folder("guests"))


def probes() -> list[str]:
    """The names of the doctor's probes: guests that ask whether a backend can do one thing."""
    return [f"probes/{name}" for name in _folders(resources.folder("guests") / "probes")]


def load(name: str) -> Guest:
    """The guest of that name, "hello" or "probes/real". Raises GuestError, with the names that come close."""
    known = names() + probes()
    if name not in known:
        raise GuestError(
            f"There is no guest called {name!r}.{_close(name, known) or ' guests.names() lists them all.'}"
        )
    return read(resources.folder("guests") / name, name)


def read(folder: Path, name: str = "") -> Guest:
    """The guest in `folder`: its manifest and its image. Raises GuestError where one of them is broken."""
    fields = manifest.read(folder)
    file = folder / f"{folder.name}.{manifest.FORMATS[fields['format']]}"
    try:
        image = file.read_bytes()
        parameters.read(image)
    except FileNotFoundError:
        raise GuestError(f"The guest {folder.name} has no image {file.name}; `make guests` builds it.") from None
    except ParameterError as error:
        raise GuestError(f"The image {file.name} is not usable: {error}") from None
    return Guest(name=name or folder.name, image=image, folder=folder, **fields)


def _folders(folder: Path) -> list[str]:
    return sorted(file.parent.name for file in folder.glob("*/guest.toml"))


def _close(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(close)}?" if close else ""
