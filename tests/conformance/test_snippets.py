"""The committed machine code is what the assembly in the tests gives."""

from __future__ import annotations

import os
import shutil

import pytest
from rig import assembly


def test_every_snippet_is_committed_and_no_other():
    assert set(assembly.committed()) == set(assembly.in_tests()), "run tests/conformance/assemble.py"


@pytest.mark.skipif(
    not (shutil.which("as") and shutil.which("ld")) and "MINIVMM_NO_SKIP" not in os.environ,
    reason="GNU as and ld are not here: apt install binutils",
)
def test_committed_bytes_are_what_the_assembler_gives():
    wrong = [key for key, code in assembly.committed().items() if assembly.assemble(key).hex() != code]
    assert not wrong
