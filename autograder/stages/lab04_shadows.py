"""The judges of lab 04, tasks 8 and 9: the shadow that the student builds, and what comes of the guest's edits."""

from __future__ import annotations

from typing import Any

from autograder.judge import fail
from autograder.model import OK, Case, Finding
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.lab04_judges import ended, number, on_console, wrote
from autograder.stages.lab04_models import MASK_32


def mapped(obs: Observation) -> tuple[dict[int, Any], Finding]:
    """What the student mapped, by address, or what is wrong with its form."""
    found: dict[int, Any] = {}
    for page in obs.list("maps"):
        if not isinstance(page, list) or len(page) != 3 or not all(type(part) is int for part in page):
            return {}, fail(f"map was called with {describe(page)} where three numbers are expected", "map")
        found[page[0]] = (page[1], page[2])
    return found, OK


def beyond(case: Case, found: dict[int, Any]) -> Finding:
    """Whether the shadow shows the guest memory that is not its own."""
    base, end = case.expected["base"], case.expected["base"] + case.inputs["ram"]
    for va, (pa, _) in found.items():
        if not base <= pa < end and va not in case.expected["shadow"]:
            return fail(
                f"{va:#x} shows the machine's {number(pa)}; the guest's memory is {base:#x}–{end - 1:#x}", "beyond"
            )
    return OK


def shadow(case: Case, obs: Observation) -> Finding:
    found, form = mapped(obs)
    if not form.ok:
        return form
    base = case.expected["base"]
    for va, (pa, _) in case.expected["shadow"].items():
        if va not in found:
            part = va & ~0x1FFFFF in found or (pa - base < 0x200000 and not va >> 21)
            hint = "split" if found and part else "missing"
            return fail(f"{va:#x} is not in the shadow; the guest has it at its {pa - base:#x}", hint)
        if found[va][0] != pa:
            text = f"the shadow of {va:#x} leads to {number(found[va][0])} where {pa:#x} is expected"
            return fail(text, "base" if found[va][0] == pa - base else "split" if va & 0x1FF000 else "base")
    return OK


def shadow_works(case: Case, obs: Observation) -> Finding:
    if not (finding := shadow(case, obs)).ok:
        return finding
    if not (finding := ended(obs)).ok:
        return finding
    return wrote(case, obs, "base")


def shadow_limits(case: Case, obs: Observation) -> Finding:
    found, form = mapped(obs)
    if not form.ok:
        return form
    if not (finding := beyond(case, found)).ok:
        return finding
    for va, (_, rights) in case.expected["shadow"].items():
        if va not in found:
            return fail(f"{va:#x} is not in the shadow: see check 04.8", "missing")
        if found[va][1] != rights:
            text = f"the shadow of {va:#x} has the rights {number(found[va][1])} where {rights:#x} are expected"
            return fail(text, "rights")
    if not (finding := ended(obs)).ok:
        return finding
    return on_console(obs, case.expected["console"], "rights")


def edits(case: Case, obs: Observation) -> Finding:
    """Each write was taken, put into the guest's table, and followed by a rebuild."""
    answers, writes = obs.list("answers"), case.expected["writes"]
    entries = case.expected["entries"]
    for n, answer in enumerate(answers):
        known = isinstance(answer, list) and len(answer) == 5
        address, size, is_write, said, entry = answer if known else (0, 0, 0, None, 0)
        if said is not True:
            what = f"exit {n + 1}, a {'write' if is_write else 'read'} of {size} bytes at {number(address)}"
            return fail(f"{what}: the answer was {describe(said)} where True is expected", "answer")
        if n < len(writes) and writes[n] != [address, size]:
            return fail(f"exit {n + 1} is at {number(address)} where {writes[n][0]:#x} is expected", "stale")
        if n < len(writes) and entry != entries[n]:
            text = f"exit {n + 1}, a write of {size} bytes: the guest's entry is now {number(entry)}"
            hint = "length" if type(entry) is int and (entry ^ entries[n]) & MASK_32 == 0 else "apply"
            return fail(f"{text} where {entries[n]:#x} is expected", hint)
    rebuilt = obs.list("rebuilt")
    if len(rebuilt) != len(answers):
        return fail(f"rebuild was called {len(rebuilt)} times after {len(answers)} writes", "rebuild")
    if not (finding := ended(obs, "stale")).ok:
        return finding
    if not (finding := on_console(obs, case.expected["console"], "stale")).ok:
        return finding
    if not (finding := kept(case, obs)).ok:
        return finding
    if obs.list("others") != [False] * len(case.inputs["others"]) or obs.raw("unharmed") is not True:
        said = ", ".join(describe(each) for each in obs.list("others"))
        return fail(f"a write below, one above, and a read of the guest's memory: answers {said}; all False expected, "
                    "and nothing done", "others")  # fmt: skip
    return OK


def kept(case: Case, obs: Observation) -> Finding:
    """The guest's own tables, as the guest would read them: what it has written, and no byte more."""
    tables, wanted = obs.bytes("guest_tables"), case.expected["guest_tables"]
    if len(tables) != len(wanted):
        return fail("the guest's tables are not there", "apply")
    for at in range(0, len(wanted), 8):
        got, want = tables[at : at + 8], wanted[at : at + 8]
        if got != want:
            place, shown, wrote = (
                case.inputs["tables"][0] + at,
                *(int.from_bytes(each, "little") for each in (got, want)),
            )
            hint = "length" if got[:4] == want[:4] else "apply"
            return fail(f"the guest's entry at its {place:#x} is {shown:#x} where {wrote:#x} is expected", hint)
    return OK
