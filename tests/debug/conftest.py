"""Lets the tests of this folder import `deaths`, the guests that they all bury."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
