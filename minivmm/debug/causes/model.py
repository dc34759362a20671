"""What a rule answers."""

from __future__ import annotations

from typing import NamedTuple


class Cause(NamedTuple):
    """The likely cause in one sentence, what to do about it, and where the rule behind it stands."""

    sentence: str
    remedy: str = ""
    source: str = ""
