"""Writes rig/snippets.json from the assembly in the tests: python tests/conformance/assemble.py (needs binutils)."""

from __future__ import annotations

import shutil
import sys

from rig.assembly import write

if __name__ == "__main__":
    if not (shutil.which("as") and shutil.which("ld")):
        sys.exit("GNU as and ld are not here: apt install binutils")
    if refused := write():
        sys.exit("\n".join(refused))
