"""An exception that an instruction raised, and why, as two clauses of one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from minivmm.debug.vectors import name_of


@dataclass(frozen=True)
class Raised:
    """`subject` is the code that raised `vector`, `why` the reason, as clauses.

    `remembered` says that it is known from KVM alone: nothing in the state shows why.
    """

    vector: int
    subject: str
    why: str = ""
    remedy: str = ""
    remembered: bool = False

    @property
    def sentence(self) -> str:
        """One sentence, without its full stop."""
        text = f"{self.subject} raised {name_of(self.vector)}"
        return f"{text}, because {self.why}" if self.why else text
