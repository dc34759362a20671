"""Why it failed: the registers in words, the instruction, the page walk, the last exits, and the likely cause."""

from minivmm.debug.explain import explain
from minivmm.debug.explanation import Explanation, Section
from minivmm.debug.where import where

__all__ = ["Explanation", "Section", "explain", "where"]
