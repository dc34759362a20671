"""Finds the Unicorn and Capstone libraries that their Python packages bring along, and refuses any but the version
known.

Both are called as C libraries, for speed: the Python package `unicorn` is only asked where its library lies.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from functools import cache
from pathlib import Path

UNICORN_VERSION = "2.1.4"  # the state's layout was learned from this one (selfcheck.py)

ARCH_X86, MODE_64 = 4, 1 << 3
CS_ARCH_X86, CS_MODES = 3, (1 << 1, 1 << 2, 1 << 3)  # Capstone 5: 16-, 32-, 64-bit code


class EngineError(RuntimeError):
    """The soft backend can't work here; the text says why and what to do."""


@cache
def unicorn() -> ctypes.CDLL:
    """The Unicorn library. Raises EngineError where it is missing, or another version."""
    install = f"run pip install unicorn=={UNICORN_VERSION} in this environment."
    if importlib.util.find_spec("unicorn") is None:
        raise EngineError(f"The soft backend needs Unicorn: {install}")
    library = _load("unicorn", ("lib/libunicorn.so.2", "lib/libunicorn.2.dylib", "lib/unicorn.dll"))
    if (found := version(library)) != UNICORN_VERSION:
        raise EngineError(f"The soft backend knows Unicorn {UNICORN_VERSION} and found {found}: {install}")
    return library


def version(unicorn_library: ctypes.CDLL) -> str:
    """What the library says of itself: a byte each for major, minor and patch (unicorn.h, uc_version)."""
    major, minor, patch, _ = (unicorn_library.uc_version(None, None) & 0xFFFFFFFF).to_bytes(4, "big")
    return f"{major}.{minor}.{patch}"


@cache
def capstone() -> ctypes.CDLL:
    """The Capstone library. Raises EngineError where it can't be loaded."""
    library = _load("capstone", ("lib/libcapstone.so", "lib/libcapstone.dylib", "lib/capstone.dll"))
    library.cs_malloc.restype = ctypes.c_void_p
    return library


def _load(package: str, names: tuple[str, ...]) -> ctypes.CDLL:
    spec = importlib.util.find_spec(package)
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    for name in names:
        if (folder / name).exists():
            try:
                return ctypes.CDLL(str(folder / name))
            except OSError as error:
                raise EngineError(
                    f"The library of {package} can't be loaded on {sys.platform} ({error}): install the package again."
                ) from None
    raise EngineError(f"The package {package} has no library for {sys.platform}: install its wheel from PyPI.")


def address(library: ctypes.CDLL, function: str) -> int:
    """Where a function of the library lies, as a number."""
    return ctypes.cast(getattr(library, function), ctypes.c_void_p).value or 0


@cache
def decoders() -> tuple[int, int, int]:
    """Capstone's handles for 16-, 32- and 64-bit code."""
    handles = []
    for mode in CS_MODES:
        handle = ctypes.c_size_t()
        if capstone().cs_open(CS_ARCH_X86, mode, ctypes.byref(handle)):
            raise EngineError("Capstone can't decode x86 here: install the package capstone again.")
        handles.append(handle.value)
    return handles[0], handles[1], handles[2]
