"""The hooks: compiled (native/), or in Python (plain.py) where there was no C compiler or MINIVMM_FFI=abi asks for it.

Both give `ffi`, with the structures of native/cpu.h, and `lib`, with the functions that build_native.py lists.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

__all__ = ["COMPILED", "ffi", "lib"]

ffi: Any
lib: Any

try:
    if os.environ.get("MINIVMM_FFI") == "abi":
        raise ImportError("ABI mode was asked for")
    _native = importlib.import_module("minivmm.soft._native")
    ffi, lib = _native.ffi, _native.lib
    COMPILED = True
except ImportError:
    _plain = importlib.import_module("minivmm.soft.plain")
    ffi, lib = _plain.ffi, _plain.lib
    COMPILED = False
