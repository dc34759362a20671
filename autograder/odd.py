"""What stands for a value that is neither JSON nor bytes: a description, and nothing of the value itself."""

from __future__ import annotations

from dataclasses import dataclass

ARTICLES = {
    bool: "True or False",
    int: "a number",
    float: "a number with a fraction",
    str: "a str",
    bytes: "bytes",
    list: "a list",
    dict: "a dict",
    type(None): "None",
}


@dataclass(frozen=True)
class Odd:
    """A value that did not fit through the channel, described: "a Bus", "a number of 9001 bits"."""

    what: str


def describe(value: object) -> str:
    """The kind of a value in words, as in "returned a list"."""
    if isinstance(value, Odd):
        return value.what
    if isinstance(value, bool):
        return str(value)
    return ARTICLES.get(type(value)) or f"a {type(value).__name__}"
