"""Whatever bytes a guest runs, it ends in an exit or at the time-out, the process lives, and its memory stays flat.

MINIVMM_RANDOM_CODE is the number of byte strings in each mode (default: a few hundred); MINIVMM_SEED picks others.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import pytest
from rig import MODES
from rig.random_code import bytes_of

HERE = Path(__file__).resolve().parent
COUNT = int(os.environ.get("MINIVMM_RANDOM_CODE") or (100 if "MINIVMM_BOX" in os.environ else 400))
SILENCE = 120 if "MINIVMM_BOX" in os.environ else 30  # seconds, many times what one byte string may take
SEED = int(os.environ.get("MINIVMM_SEED") or 1)


def watched(command: list[str], output: IO[str]) -> int | None:
    """Runs a command; its exit status, or None where it was killed because nothing new came for SILENCE seconds."""
    process = subprocess.Popen(command, cwd=HERE, stdout=output, stderr=output)
    size, since = 0, time.monotonic()
    try:
        while (status := process.poll()) is None and time.monotonic() - since < SILENCE:
            time.sleep(0.1)
            if (now := os.fstat(output.fileno()).st_size) != size:
                size, since = now, time.monotonic()
    finally:
        process.kill()
        process.wait()
    return status


@pytest.mark.parametrize("mode", MODES)
def test_every_byte_string_ends(backend, mode):
    command = [sys.executable, "-m", "rig.random_code", backend.name, mode, str(SEED), str(COUNT)]
    with tempfile.TemporaryFile("w+") as output:
        status = watched(command, output)
        output.seek(0)
        text = output.read()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    if status != 0:
        code, ring = bytes_of(mode, SEED, lines[-1]["n"])
        how = "does not end" if status is None else f"dies ({signal.Signals(-status).name if status < 0 else status})"
        pytest.fail(f"{mode} mode, ring {ring}, bytes {code.hex(' ')}: the process {how}\n{text[-2000:]}")
    endings = [line["ended"] for line in lines if "ended" in line]
    assert len(endings) == COUNT
    assert not [ended for ended in endings if ended.startswith("refused")]
    memory = [line["rss"] for line in lines if "rss" in line]
    assert memory[-1] <= memory[0] * 1.05, f"resident memory in KiB: {memory}"
