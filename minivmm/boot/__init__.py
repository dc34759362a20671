"""Ways into a guest: where an image goes in memory, and the state that its first instruction finds."""

from minivmm.boot.recognise import Kind, recognise

__all__ = ["Kind", "recognise"]
