"""What may cross between sandbox and supervisor: frames of JSON, bytes tagged as base64. Never pickle.

A frame is four bytes of length (big end first) and that many bytes of JSON. Both sides read frames as data from an
enemy: `decode` raises WireError for anything that `encode` would not have written, and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Iterator
from typing import Any

from autograder.odd import Odd

TAG = "$"  # the key that marks what JSON has no word for
DEEPEST = 24  # lists in lists; what is deeper is cyclic or meant to hurt
MOST_ITEMS = 100_000
MOST_BITS = 1024  # of a number: more than any register, and far below the size where printing one takes long
LENGTH = struct.Struct(">I")


class WireError(ValueError):
    """The bytes are not what `encode` writes."""


def encode(value: Any) -> bytes:
    """A value as JSON. Whatever is neither JSON nor bytes arrives as an Odd; no method of a student's class is called
    that could lie: subclasses of int, str, bytes, list and dict travel as what they hold."""
    return json.dumps(_plain(value, DEEPEST, [MOST_ITEMS]), separators=(",", ":")).encode()


def decode(data: bytes) -> Any:
    """The value back. Raises WireError."""
    try:
        return json.loads(data, object_hook=_untag)
    except (ValueError, RecursionError, TypeError) as error:
        raise WireError(f"not a frame of ours: {type(error).__name__}") from None


def frame(value: Any) -> bytes:
    payload = encode(value)
    return LENGTH.pack(len(payload)) + payload


def frames(data: bytes) -> Iterator[Any]:
    """The values of a run of frames; a last frame that was cut short is left out. Raises WireError."""
    at = 0
    while at + LENGTH.size <= len(data):
        (length,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size
        if at + length > len(data):
            return
        yield decode(data[at : at + length])
        at += length


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if depth == 0 or left[0] < 0:
        return _odd("something nested too deep" if depth == 0 else "more items than the channel takes")
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value
    if issubclass(kind, int):
        # int.__index__ of a subclass gives the number that it holds, whatever the subclass overrides.
        bits = int.bit_length(value)
        return int.__index__(value) if bits <= MOST_BITS else _odd(f"a number of {bits} bits")
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, float):
        return float.__float__(value)
    if issubclass(kind, (bytes, bytearray)):
        return _bytes(bytes.__getitem__(value, slice(None)) if issubclass(kind, bytes) else memoryview(value))
    if kind is memoryview:
        return _bytes(value)
    if issubclass(kind, list):
        return _items(list.__iter__(value), depth, left)
    if issubclass(kind, tuple):
        return _items(tuple.__iter__(value), depth, left)
    if issubclass(kind, (set, frozenset)):
        base: Any = set if issubclass(kind, set) else frozenset
        return sorted(_items(base.__iter__(value), depth, left), key=repr)
    if issubclass(kind, dict):
        return _dict(iter(dict.items(value)), depth, left)
    if kind is Odd:
        return _odd(value.what)
    return _odd(f"a {type.__dict__['__name__'].__get__(kind)}")


def _bytes(value: Any) -> dict[str, str]:
    return {TAG: "bytes", "v": base64.b64encode(value).decode()}


def _odd(what: str) -> dict[str, str]:
    return {TAG: "odd", "v": what}


def _items(items: Iterator[Any], depth: int, left: list[int]) -> list[Any]:
    """The items as far as the channel takes them; one Odd stands for the rest."""
    taken = []
    for item in items:
        taken.append(_plain(item, depth - 1, left))
        if left[0] < 0:
            break
    return taken


def _dict(items: Iterator[tuple[Any, Any]], depth: int, left: list[int]) -> Any:
    pairs = []
    for key, item in items:
        pairs.append((_plain(key, depth - 1, left), _plain(item, depth - 1, left)))
        if left[0] < 0:
            break
    if all(type(key) is str and key != TAG for key, _ in pairs):
        return dict(pairs)
    return {TAG: "dict", "v": [[key, item] for key, item in pairs]}


def _untag(value: dict[str, Any]) -> Any:
    if TAG not in value:
        return value
    content = value.get("v")
    match value[TAG]:
        case "bytes" if isinstance(content, str):
            try:
                return base64.b64decode(content, validate=True)
            except binascii.Error as error:
                raise WireError("bad base64") from error
        case "odd" if isinstance(content, str):
            return Odd(content[:200])
        case "dict" if isinstance(content, list):
            return {_hashable(key): item for key, item in content}
        case _:
            raise WireError("an unknown tag")


def _hashable(key: Any) -> Any:
    return repr(key) if isinstance(key, (list, dict)) else key
