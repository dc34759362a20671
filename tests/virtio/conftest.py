"""A guest of our own making for the virtio tests: memory that watches its borders, and a driver."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from guest import Guest


@pytest.fixture
def guest() -> Guest:
    return Guest()
