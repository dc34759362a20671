"""Causes that lie in a mode switch left half done: the code is decoded in another width than it was written in.

Source: SDM vol. 3, "Switching to Protected Mode" and "Initializing IA-32e Mode": both end with a far jump.
"""

from __future__ import annotations

from minivmm.debug.causes.fetch import died_executing
from minivmm.debug.causes.model import Cause
from minivmm.debug.evidence import Evidence
from minivmm.x86 import modes
from minivmm.x86.disassembly import instructions

REX = range(0x40, 0x50)
SWITCHING = 'SDM vol. 3, "Switching to Protected Mode"'


def compatibility(evidence: Evidence) -> Cause | None:
    """64-bit code that runs before the far jump: its REX prefixes look like INC and DEC."""
    if not died_executing(evidence) or modes.mode_of(evidence.sregs, evidence.regs) != modes.COMPATIBILITY:
        return None
    listing = evidence.listing()
    rex = [each for each in listing if len(each.code) == 1 and each.code[0] in REX]
    if not rex or (rex[0] is not listing[0] and len(rex) < 2):
        return None
    return Cause(
        f"Long mode is active but CS.L is 0, so the code at {evidence.linear_rip:#x} runs as 32-bit code, and its "
        f"bytes look like 64-bit code (`{rex[0].text}` would be a REX prefix).",
        "After setting CR0.PG make a far jump to a code segment with L=1 and D=0.",
        'SDM vol. 3, "Initializing IA-32e Mode"',
    )


def no_far_jump(evidence: Evidence) -> Cause | None:
    """CR0.PE is set and CS still holds what real mode left there."""
    if not died_executing(evidence) or modes.mode_of(evidence.sregs, evidence.regs) != modes.PROTECTED_16:
        return None
    cs = evidence.sregs.cs
    if cs.limit != 0xFFFF or cs.base != cs.selector << 4:
        return None
    wide = next(iter(instructions(evidence.code(), evidence.regs.rip, 32, 1)), None)
    shown = f", where it would be `{wide.text}` as 32-bit code" if wide else ""
    return Cause(
        f"CR0.PE is set but CS still is the 16-bit segment of real mode, so the code at {evidence.linear_rip:#x} runs "
        f"as 16-bit code{shown}.",
        "Right after setting CR0.PE make a far jump to a code segment of your GDT with D=1.",
        SWITCHING,
    )


RULES = (compatibility, no_far_jump)
