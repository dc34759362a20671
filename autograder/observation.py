"""What came back from the sandbox, read with suspicion: any key may be absent and any value of any type."""

from __future__ import annotations

import builtins
from typing import Any

from autograder.odd import ARTICLES, describe


class IllTypedError(ValueError):
    """A value is missing or of the wrong type. The text is a sentence for the student; the verdict is `wrong`."""


class Observation:
    """The dict that a driver returned, by typed getters. The key "value" is by custom what the student's code returned.

    A getter returns exactly the type it names, or raises IllTypedError with a sentence such as
    "`bytes_of` gave a list where bytes are expected". A judge need not catch it: the supervisor does.
    """

    def __init__(self, data: object, exercise: builtins.str) -> None:
        self.exercise = exercise
        if not isinstance(data, dict):
            raise IllTypedError(f"the driver of `{exercise}` answered with {describe(data)} where a dict is expected")
        self._data = data

    def __contains__(self, key: builtins.str) -> builtins.bool:
        return key in self._data

    def raw(self, key: builtins.str = "value") -> Any:
        """The value as it came: None, bool, int, float, str, bytes, list, dict or Odd."""
        if key not in self._data:
            raise IllTypedError(f"`{self.exercise}` ended without giving `{key}`")
        return self._data[key]

    def bytes(self, key: builtins.str = "value") -> builtins.bytes:
        return self._typed(key, builtins.bytes)  # type: ignore[no-any-return]

    def int(self, key: builtins.str = "value") -> builtins.int:
        return self._typed(key, builtins.int)  # type: ignore[no-any-return]

    def bool(self, key: builtins.str = "value") -> builtins.bool:
        return self._typed(key, builtins.bool)  # type: ignore[no-any-return]

    def str(self, key: builtins.str = "value") -> builtins.str:
        return self._typed(key, builtins.str)  # type: ignore[no-any-return]

    def list(self, key: builtins.str = "value") -> builtins.list[Any]:
        """A list; a student's tuple or set arrives as one too (a set sorted by its text)."""
        return self._typed(key, builtins.list)  # type: ignore[no-any-return]

    def dict(self, key: builtins.str = "value") -> builtins.dict[Any, Any]:
        return self._typed(key, builtins.dict)  # type: ignore[no-any-return]

    def ints(self, key: builtins.str = "value") -> builtins.list[builtins.int]:
        """A list of numbers."""
        items = self.list(key)
        for index, item in enumerate(items):
            if type(item) is not builtins.int:
                raise self._ill_typed(f"{key}[{index}]", item, "a number")
        return items

    def strs(self, key: builtins.str = "value") -> builtins.list[builtins.str]:
        """A list of strs."""
        items = self.list(key)
        for index, item in enumerate(items):
            if type(item) is not builtins.str:
                raise self._ill_typed(f"{key}[{index}]", item, "a str")
        return items

    @property
    def exits(self) -> builtins.list[builtins.str]:
        """The last exits that the recorder saw, one line each; empty where the driver recorded none."""
        exits = self._data.get("exits", [])
        return [line for line in exits if isinstance(line, str)] if isinstance(exits, list) else []

    @property
    def raised(self) -> builtins.str:
        """The name of the exception that the student's code raised under `attempt`, else ""."""
        name = self._data.get("raised", "")
        return name if isinstance(name, str) else ""

    def _typed(self, key: builtins.str, kind: type) -> Any:
        value = self.raw(key)
        if type(value) is not kind:
            raise self._ill_typed(key, value, ARTICLES[kind])
        return value

    def _ill_typed(self, key: builtins.str, value: object, wanted: builtins.str) -> IllTypedError:
        are = "are" if wanted == "bytes" else "is"
        place = "" if key == "value" else f" (in `{key}`)"
        forgot = " (did you forget to return it?)" if value is None and key == "value" else ""
        return IllTypedError(f"`{self.exercise}` gave {describe(value)} where {wanted} {are} expected{place}{forgot}")
