"""Why a translation failed: the exception, its error code in words, and the bit that was to blame.

Source: SDM vol. 3, "Page-Fault Exceptions" and "Interrupt 14—Page-Fault Exception (#PF)".
"""

from __future__ import annotations

from dataclasses import dataclass

PROTECTION = 1 << 0
WRITE = 1 << 1
USER = 1 << 2
RESERVED = 1 << 3
FETCH = 1 << 4
PROTECTION_KEY = 1 << 5
SHADOW_STACK = 1 << 6
SGX = 1 << 15

_WORDS = (
    (RESERVED, "a reserved bit is set"),
    (PROTECTION_KEY, "refused by a protection key"),
    (SHADOW_STACK, "shadow-stack access"),
    (SGX, "refused by SGX"),
)


def error_code_in_words(code: int) -> str:
    """A page-fault error code in words: 0x6 is "page not present, write, by user code"."""
    words = ["the page is present but refuses" if code & PROTECTION else "page not present"]
    words.append("instruction fetch" if code & FETCH else "write" if code & WRITE else "read")
    words.append("by user code" if code & USER else "by the kernel")
    words += [text for bit, text in _WORDS if code & bit]
    return ", ".join(words)


@dataclass(frozen=True)
class Fault:
    """Why a walk ended without an address.

    `exception` is "#PF", "#GP", or "no memory" where a table lies where the VM has no memory. `error_code` is what the
    processor would push. `level` names the table whose entry decided, if one did. `reason` is a full sentence.
    """

    exception: str
    error_code: int
    level: str | None
    reason: str

    def __str__(self) -> str:
        if self.exception == "#PF":
            return f"#PF, error code {self.error_code:#x} ({error_code_in_words(self.error_code)}): {self.reason}"
        return f"{self.exception}: {self.reason}"
