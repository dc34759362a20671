"""A line typed on a raw terminal, where nobody but us echoes, erases and ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

ENTER, ERASE, ESC = b"\r\n", b"\x7f\x08", 0x1B
CTRL_C, CTRL_U = 0x03, 0x15
LONGEST = 1024


class LineEditor:
    """Takes bytes as they are typed and yields finished lines. What the person should see goes to `echo`.

    Backspace, Ctrl-U (erase the line) and Ctrl-C (forget it) work; other control keys and arrows do nothing.
    """

    def __init__(self, echo: Callable[[str], object], prompt: str) -> None:
        self._echo = echo
        self._prompt = prompt
        self._line = ""
        self._sequence = ""  # an escape sequence that has begun

    def prompt(self) -> None:
        """Shows the prompt and what has been typed behind it so far."""
        self._echo(self._prompt + self._line)

    def typed(self, data: bytes) -> Iterator[str]:
        """The lines that `data` finishes. The prompt for the next one is the caller's business."""
        for byte in data:
            if self._sequence or byte == ESC:
                self._skip(chr(byte))
            elif byte in ENTER:
                line, self._line = self._line, ""
                self._echo("\n")
                yield line
            elif byte in ERASE:
                self._erase(1)
            elif byte == CTRL_U:
                self._erase(len(self._line))
            elif byte == CTRL_C:
                self._line = ""
                self._echo("^C\n")
                self.prompt()
            elif 0x20 <= byte < 0x7F and len(self._line) < LONGEST:
                self._line += chr(byte)
                self._echo(chr(byte))

    def _erase(self, count: int) -> None:
        count = min(count, len(self._line))
        self._line = self._line[: len(self._line) - count]
        self._echo("\b \b" * count)

    def _skip(self, char: str) -> None:
        # ESC [ parameters final, ESC O final, or ESC and one character (ECMA-48, "Control sequences").
        self._sequence += char
        begun = self._sequence[1:2]
        length = len(self._sequence)
        if (length == 2 and begun not in ("[", "O")) or (length > 2 and "@" <= char <= "~") or length > 32:
            self._sequence = ""
