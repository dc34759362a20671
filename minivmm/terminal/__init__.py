"""The person at the other end of the serial line: keyboard, screen, and the keys that the machine never sees."""

from minivmm.terminal.terminal import HELP, Terminal

__all__ = ["HELP", "Terminal"]
