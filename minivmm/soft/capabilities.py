"""KVM_CHECK_EXTENSION of the soft backend. (Being written; the interface stands.)"""

from __future__ import annotations


def check(capability: int) -> int:
    """The answer of KVM_CHECK_EXTENSION: 0 for what isn't there."""
    raise NotImplementedError
