"""`explain`: from a dead vCPU to an Explanation. Whatever the state or the memory, it returns one."""

from __future__ import annotations

from collections.abc import Iterable

from minivmm.debug import history as exit_history
from minivmm.debug.causes import Cause, likely_cause
from minivmm.debug.evidence import Evidence, attempt, gather, kvm_bytes
from minivmm.debug.explanation import Explanation, Section
from minivmm.debug.suspects import suspect
from minivmm.exits import Exit
from minivmm.vcpu import Vcpu
from minivmm.x86.disassembly import instructions
from minivmm.x86.registers import state_text
from minivmm.x86.state import MemoryLike

UNREADABLE = Cause(
    "The vCPU's registers can't be read any more, so only the exits are known.",
    "Explain a failure before closing its VM.",
)

NO_WALK: tuple[str, tuple[str, ...]] = ("The page walk", ())


def explain(vcpu: Vcpu, memory: MemoryLike, exit: Exit, history: Iterable[Exit]) -> Explanation:
    """Why `exit` ended the guest. `history` is the exits before it, oldest first, `exit` itself last. Never raises."""
    history = tuple(history)
    evidence = attempt(lambda: gather(vcpu, memory, exit, history), None)
    exits = Section("The last exits, most recent last", tuple(attempt(lambda: exit_history.last(history), [])))
    name = attempt(lambda: str(exit), "an exit that can't be shown")
    if evidence is None:
        return Explanation(name, UNREADABLE.sentence, UNREADABLE.remedy, sections=(exits,))
    cause = likely_cause(evidence)
    sections = (*_sections(evidence), exits)
    return Explanation(
        name, cause.sentence, cause.remedy, cause.source, tuple(section for section in sections if section.lines)
    )


def _sections(evidence: Evidence) -> list[Section]:
    title = "The registers" + (" (KVM has reset them: these are not the guest's)" if evidence.was_reset else "")
    walk, lines = attempt(lambda: _walk(evidence), NO_WALK)
    return [
        Section("The code at RIP", attempt(lambda: _code(evidence), ("it can't be shown",))),
        Section(walk, lines),
        Section(title, attempt(lambda: tuple(state_text(evidence.regs, evidence.sregs).splitlines()), ())),
    ]


def _code(evidence: Evidence) -> tuple[str, ...]:
    listing = evidence.listing()
    width = max((len(each.code.hex(" ")) for each in listing), default=0)
    lines = [f"{each.address:#x}: {each.code.hex(' '):<{width}}  {each.text}" for each in listing]
    if lines:
        lines[0] += "    <- RIP"
    else:
        lines = [f"nothing can be fetched at {evidence.linear_rip:#x}, {evidence.fetch().problem}"]
    given = kvm_bytes(evidence.exit)
    if given and not evidence.code(len(given)).startswith(given):
        first = instructions(given, evidence.regs.rip, evidence.bits, 1)[0]
        lines.append(f"KVM saw other bytes here: {first.code.hex(' ')}  {first.text}")
    return tuple(lines)


def _walk(evidence: Evidence) -> tuple[str, tuple[str, ...]]:
    found = suspect(evidence)
    lines = found.reach.walk.text().splitlines()
    if not found.reach.walk.fault and not found.reach.has_memory:
        lines.append("  the VM has no memory slot there")
    return f"The page walk of {found.address:#x}, {found.why}", tuple(lines)
