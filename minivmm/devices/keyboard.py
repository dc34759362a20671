"""A PS/2 keyboard: it answers commands, and sends scan codes of set 2, the only set it has.

Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboard": "Commands from the System", "Commands to the
System".
"""

from __future__ import annotations

from collections import deque
from typing import Any

from minivmm.devices.scancodes import break_code, keys_of, make_code

SET_LEDS, ECHO, SCAN_SET, IDENTIFY, TYPEMATIC = 0xED, 0xEE, 0xF0, 0xF2, 0xF3
ENABLE, DISABLE, DEFAULTS, RESEND, RESET = 0xF4, 0xF5, 0xF6, 0xFE, 0xFF
WITH_PARAMETER = SET_LEDS, SCAN_SET, TYPEMATIC
ACK, SELF_TEST_PASSED = 0xFA, 0xAA
ID = 0xAB, 0x83
BUFFER = 16  # bytes of answers; a host that asks on without listening loses the rest


class Keyboard:
    """Bytes come out of `next_byte`. What is typed waits, on the host's side, while the guest keeps scanning off."""

    def __init__(self) -> None:
        self.leds = 0  # bit 0 scroll lock, 1 num lock, 2 caps lock
        self._typed: deque[bytes] = deque()  # a key's whole code each
        self._output: deque[int] = deque()
        self._scanning = True
        self._expects = 0  # the command whose parameter comes next, or 0
        self._last = ACK  # for RESEND

    def press(self, key: str) -> None:
        """A key goes down: "a", "enter", "f1", … Raises ValueError for one that isn't there."""
        self._typed.append(make_code(key))

    def release(self, key: str) -> None:
        """A key goes up. Raises ValueError for one that isn't there."""
        self._typed.append(break_code(key))

    def type(self, text: str) -> None:
        """Types `text`, each key down and up. Raises ValueError, and types nothing, where a character has no key."""
        for keys in [keys_of(character) for character in text]:
            for key in keys:
                self.press(key)
            for key in reversed(keys):
                self.release(key)

    def next_byte(self) -> int | None:
        """The next byte for the controller, or None. Answers come first, but never in the middle of a key's code."""
        if not self._output and self._scanning and self._typed:
            self._output.extend(self._typed.popleft())
        if not self._output:
            return None
        self._last = self._output.popleft()
        return self._last

    def command(self, value: int) -> None:
        """A byte from the controller."""
        if self._expects and value < SET_LEDS:  # a command in place of a parameter is a command
            command, self._expects = self._expects, 0
            self._parameter(command, value)
            return
        self._expects = value if value in WITH_PARAMETER else 0
        if value == ECHO:
            self._answer(ECHO)
        elif value == RESEND:
            self._answer(self._last)
        elif value == RESET:
            self._output.clear()
            self._set_defaults()
            self._answer(ACK, SELF_TEST_PASSED)
        elif value == IDENTIFY:
            self._answer(ACK, *ID)
        elif value in (ENABLE, DISABLE, DEFAULTS):
            if value != ENABLE:
                self._set_defaults()
            self._scanning = value != DISABLE
            self._answer(ACK)
        else:
            self._answer(ACK if value in WITH_PARAMETER else RESEND)

    def _parameter(self, command: int, value: int) -> None:
        if command == SET_LEDS:
            self.leds = value & 7
        if command == SCAN_SET and value == 0:  # which set is it?
            self._answer(ACK, 2)
        elif command == SCAN_SET and value != 2:
            self._answer(RESEND)
        else:
            self._answer(ACK)

    def _set_defaults(self) -> None:
        self.leds, self._scanning = 0, True

    def _answer(self, *values: int) -> None:
        self._output.extend(values[: max(0, BUFFER - len(self._output))])

    def save(self) -> dict[str, Any]:
        return {
            "leds": self.leds,
            "typed": [list(code) for code in self._typed],
            "output": list(self._output),
            "scanning": self._scanning,
            "expects": self._expects,
            "last": self._last,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.leds, self._scanning = state["leds"], state["scanning"]
        self._typed = deque(bytes(code) for code in state["typed"])
        self._output = deque(state["output"])
        self._expects, self._last = state["expects"], state["last"]
