"""What the guests of lab 04 print and do, computed in Python. See models.py; these are answers, and nothing on the
sandbox's side may import them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autograder.stages.models import Stream, model, page_toucher

PAGE = 4096
MASK_32 = 0xFFFF_FFFF


def _last(stream: Stream) -> str:
    return f"{stream.next():08x}\n"


def far_writer_values(nonce: int, count: int) -> list[int]:
    """The numbers that far-writer writes, in the order of its list."""
    stream = Stream(nonce)
    return [stream.next() for _ in range(count)]


@model("far-writer")
def far_writer(p: Any) -> bytes:
    stream = Stream(p.nonce)
    for _ in range(p.count):
        stream.next()
    return _last(stream).encode()


@model("rights-prober")
def rights_prober(p: Any, codes: Iterable[int | None] = ()) -> bytes:
    """`codes`: the error code of each access, None where it is allowed."""
    stream = Stream(p.nonce)
    lines = [f"{'ok' if code is None else f'{code:02x}'} {_last(stream)}" for code in codes]
    return ("".join(lines) + _last(stream)).encode()


def page_user_accesses(nonce: int, size: int, count: int) -> tuple[set[int], set[int]]:
    """The numbers of the pages that page-user touches, and of those that it writes to."""
    stream, touched, written = Stream(nonce), set(), set()
    for _ in range(count if size >> 12 else 0):
        page = stream.next() * (size >> 12) >> 32
        touched.add(page)
        if stream.next() >> 31:
            written.add(page)
    return touched, written


model("page-user")(page_toucher)  # it prints the same: the stream, two numbers an access further


def demand_pager_places(nonce: int, address: int, size: int, count: int) -> list[tuple[int, int]]:
    """The writes that demand-pager makes, as (virtual address, value)."""
    stream, places = Stream(nonce), []
    for _ in range(count):
        page = stream.next() * (size >> 12) >> 32
        value = stream.next()
        places.append((address + (page << 12) + (value >> 20 & 0xFFC), value))
    return places


@model("demand-pager")
def demand_pager(p: Any, refused: Mapping[int, tuple[int, int | None]] | None = None) -> bytes:
    """`refused`: by page number, the error code of its refused writes, and of its reads (None: those are allowed).
    What a page holds that could be read but not written is zeros.
    """
    refused = refused or {}
    places = demand_pager_places(p.nonce, p.address, p.size, p.count)
    memory: dict[int, int] = {}
    text, folded = "", 0
    for va, value in places:
        if (page := va - p.address >> 12) in refused:
            text += f"! {refused[page][0]:02x} {va & MASK_32:08x}\n"
        else:
            memory[va] = value
    for va, _ in places:
        code = refused.get(va - p.address >> 12, (0, None))[1]
        if code is not None:
            text += f"! {code:02x} {va & MASK_32:08x}\n"
        else:
            folded = _fold(folded, memory.get(va, 0))
    stream = Stream(p.nonce)
    for _ in range(2 * p.count):
        stream.next()
    return f"{text}{stream.next() ^ folded:08x}\n".encode()


def _fold(folded: int, value: int) -> int:
    return ((folded << 5 | folded >> 27) & MASK_32) ^ value


def table_editor_edits(nonce: int, pages: int, count: int, first: int, shown: int) -> list[tuple[int, int, int]]:
    """The page-table writes that table-editor makes, as (address, size, value)."""
    stream, edits = Stream(nonce), []
    for _ in range(count):
        place = first + 8 * (stream.next() * pages >> 32)
        number = stream.next()
        edits.append((place, 4 if number & 1 else 8, (shown + (number >> 29 << 12)) | 3))
        stream.next()
    return edits


@model("table-editor")
def table_editor(p: Any) -> bytes:
    stream, shown = Stream(p.nonce), [0] * 8
    for _ in range(p.count if p.size >> 12 else 0):
        stream.next()
        frame = stream.next() >> 29
        shown[frame] = stream.next()
    folded = 0
    for value in shown:
        folded = _fold(folded, value)
    return f"{stream.next() ^ folded:08x}\n".encode()


@model("entry-tester")
def entry_tester(p: Any, results: Sequence[tuple[str, int]] = ()) -> bytes:
    """`results`: for each record "+" and the number found, or "-" and the error code."""
    stream = Stream(p.nonce)
    lines = "".join(f"{sign}{stream.next() ^ number:08x}\n" for sign, number in results)
    return (lines + _last(stream)).encode()
