"""What a loader says of an image that it won't load."""

from __future__ import annotations


class BadImageError(ValueError):
    """An image that can't be loaded; the text says what is wrong and what to do."""
