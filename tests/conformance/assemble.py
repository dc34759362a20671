"""Writes rig/snippets.json from the assembly in the tests: python tests/conformance/assemble.py (needs binutils)."""

from __future__ import annotations

import sys

from rig.assembly import AssemblyError, write

if __name__ == "__main__":
    try:
        print(f"{write()} snippets assembled")
    except AssemblyError as error:
        sys.exit(str(error))
