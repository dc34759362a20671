"""Lists of memoryviews as one run of bytes: what is called scatter and gather.

"The device MUST NOT make assumptions about the particular arrangement of descriptors" (2.7.4.1): a header may come in
three pieces, or in one with the data behind it. These functions make that somebody else's problem.
"""

from __future__ import annotations

from collections.abc import Sequence

Views = Sequence[memoryview]


def size_of(views: Views) -> int:
    """The bytes in all of them together."""
    return sum(map(len, views))


def split(views: Views, at: int) -> tuple[list[memoryview], list[memoryview]]:
    """The first `at` bytes, and the rest. No byte is copied. What isn't there is left out."""
    front: list[memoryview] = []
    for index, view in enumerate(views):
        if at < len(view):
            return ([*front, view[:at]] if at else front), [view[at:], *views[index + 1 :]]
        front.append(view)
        at -= len(view)
    return front, []


def split_last(views: Views) -> tuple[list[memoryview], memoryview]:
    """All bytes but the last, and the last, of which there must be one."""
    *front, last = views
    return ([*front, last[:-1]] if len(last) > 1 else front), last[-1:]


def gather(views: Views) -> bytes:
    """A copy of all their bytes, which the guest can't change any more."""
    return b"".join(views)


def scatter(views: Views, data: bytes) -> int:
    """Copies `data` into them, front to back. Returns how many bytes found room."""
    done = 0
    for view in views:
        piece = data[done : done + len(view)]
        view[: len(piece)] = piece
        done += len(piece)
        if done == len(data):
            break
    return done
