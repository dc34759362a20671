"""Lab 07, time in memory: the page of kvmclock and the page of stolen time, and the protocol that keeps them whole."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from autograder import judge
from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import LOOP, guest, on_console
from autograder.stages.models import expected_console

TIME, STEAL = struct.Struct("<IIQQIbBH"), struct.Struct("<QIIB47x")
TIME_NAMES = ("version", "pad0", "tsc_timestamp", "system_time", "tsc_to_system_mul", "tsc_shift")
TICKS = {1: 1, 0: 2, 2: 0.5, -1: 4}  # ticks in a ns, by the shift, where mul is 2**31

# ---- 07.6 publish ----


def pages(nonces: Nonces, label: str, count: int) -> tuple[list[list[int]], int, int, int]:
    """`count` pages of one clock, [tsc, ns, mul, shift]: they differ, and agree on the time. And tick, ns, shift."""
    shift = nonces.choice(f"shift {label}", (1, 0, -1))
    tick, ns = 4 * nonces.range(f"tick {label}", 2**20, 2**26), nonces.range(f"ns {label}", 2**33, 2**45)
    made = []
    for number in range(count):
        back = 4 * nonces.range(f"back {label} {number}", 1, 2**15) + (count - number) * 2**19
        made.append([tick - back, ns - back // int(TICKS[shift]), 1 << 31, shift])
    return made, tick, ns, shift


def layout(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(3):
        gpa = 0x9000 + 0x40 * nonces.range(f"gpa{run}", 0, 40)
        made, _, _, _ = pages(nonces, f"layout{run}", 1)
        made[0][2] = nonces.range(f"mul{run}", 1 << 31, 1 << 32)
        made[0][3] = (-5, 3, 0)[run]
        version = 2 * nonces.range(f"version{run}", 0, 2**20) if run < 2 else 0xFFFF_FFFE
        inputs = {"start": 0, "version": version, "pages": made, "run": False}
        label = f"version {version} and a shift of {made[0][3]}"
        cases.append(Case(inputs | guest("clock-reader", address=gpa), None, label))
    return cases


def replayed(writes: list[Any], gpa: int, size: int, before: bytes = b"") -> list[bytes] | None:
    """The page after each step of a write, or None where one lies outside it. A copy goes four bytes at a time: another
    processor may look in between."""
    page = bytearray(before.ljust(size, b"\0"))
    stages = [bytes(page)]
    for at, data in writes:
        if not (isinstance(at, int) and isinstance(data, bytes) and 0 <= at - gpa <= at - gpa + len(data) <= size):
            return None
        for step in range(at - gpa, at - gpa + len(data), 4):
            piece = data[step - (at - gpa) :][:4]
            page[step : step + len(piece)] = piece
            stages.append(bytes(page))
    return stages


def laid_out(case: Case, obs: Observation) -> Finding:
    gpa, version = case.inputs["parameters"]["address"], case.inputs["version"]
    writes = [each[1:] for each in obs.list("writes") if isinstance(each, list) and len(each) == 3]
    if not writes:
        return fail("nothing was written to the page", "nothing")
    stages = replayed(writes, gpa, TIME.size)
    if stages is None:
        return fail(f"a write lies outside the {TIME.size} bytes of the page at {gpa:#x}", "outside")
    fields = dict(zip(TIME_NAMES, TIME.unpack(stages[-1]), strict=False))
    tsc, ns, mul, shift = case.inputs["pages"][0]
    new = version + 2 & 0xFFFF_FFFF
    wanted = {"tsc_timestamp": tsc, "system_time": ns, "tsc_to_system_mul": mul, "tsc_shift": shift}
    if not (finding := judge.same_values(wanted, fields, "the fields of the page", "layout")).ok:
        swapped = fields["tsc_timestamp"] == ns
        return fail(finding.message, "swapped" if swapped else "layout")
    if fields["version"] != new:
        odd = fields["version"] & 1
        message = f"the version is {fields['version']} at the end where {new} is expected"
        return fail(message, "odd" if odd else "version")
    answer = obs.list("versions")[0]
    if answer != new:
        seen = describe(answer) if type(answer) is not int else answer
        return fail(f"`publish` gave {seen} where {new} is expected: the version that the page has now", "return")
    return OK


def races(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(3):
        gpa = 0x9000 + 0x40 * nonces.range(f"gpa{run}", 0, 40)
        made, tick, ns, shift = pages(nonces, f"race{run}", 6)
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "address": gpa, "count": 5}
        each = int(TICKS[shift])

        def at(now: int, tick: int = tick, ns: int = ns, each: int = each) -> int:
            return ns + (now - tick) // each

        wanted = expected_console("clock-reader", parameters, start=tick, ns=at)
        inputs = {"start": tick, "version": 2 * nonces.range(f"version{run}", 1, 1000), "pages": made, "run": True}
        cases.append(Case(inputs | guest("clock-reader", **parameters), wanted, f"page {run + 1} of 3"))
    return cases


def torn(writes: list[Any], gpa: int, size: int, at: int, before: bytes, pages: list[bytes]) -> tuple[str, str]:
    """(what is wrong, hint) where a reader could take a page for whole that is not; ("", "") where none could.

    `at`: the version's place. `pages`: the whole pages that there are, without versions.
    """
    stages = replayed(writes, gpa, size, before)
    if stages is None:
        return "a write lies outside the page", "outside"
    seen: dict[int, bytes] = {}
    for stage in stages:
        version = int.from_bytes(stage[at : at + 4], "little")
        rest = stage[:at] + bytes(4) + stage[at + 4 :]
        if version & 1:
            continue
        if seen.setdefault(version, rest) != rest:
            return f"at one moment the page has changed, and its version is {version}, as before", "odd-first"
        if rest not in pages:
            return f"at one moment the version is {version}, which is even, and the page is half new", "even-last"
    return "", ""


def never_torn(case: Case, obs: Observation) -> Finding:
    gpa = case.inputs["parameters"]["address"]
    whole = [TIME.pack(0, 0, tsc, ns, mul, shift, 0, 0) for tsc, ns, mul, shift in case.inputs["pages"]]
    told = [each for each in obs.list("writes") if isinstance(each, list) and len(each) == 3]
    first, later = [each[1:] for each in told if each[0] == 0], [each[1:] for each in told if each[0] != 0]
    stages = replayed(first, gpa, TIME.size)
    if not later or stages is None:
        return fail("the page was not written", "nothing")
    wrong, hint = torn(later, gpa, TIME.size, 0, stages[-1], whole)
    if wrong:
        return fail(f"a guest that reads at the wrong moment gets a wrong time: {wrong}", hint)
    return on_console(obs, case.expected, "console")


# ---- 07.9 publish_steal ----


def steals(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(3):
        gpa = 0x9000 + 0x40 * nonces.range(f"gpa{run}", 0, 40)
        version = 2 * nonces.range(f"version{run}", 1, 1000) if run else 0xFFFF_FFFE
        before = nonces.range(f"before{run}", 2**32, 2**40)
        before_it = STEAL.pack(before, version, nonces.range(f"flags{run}", 1, 2**32), 1) if run else STEAL.pack(
            before, version, 0, 0)  # fmt: skip
        stolen = [before + nonces.range(f"stolen{run}", 2**33, 2**41)]
        inputs = {"version": version, "before": before_it, "stolen": stolen, "run": run > 0}
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "address": gpa, "count": 5}
        cases.append(Case(inputs | guest("steal-reader", **parameters), before, f"{stolen[0]} ns stolen"))
    return cases


def steal_told(case: Case, obs: Observation) -> Finding:
    inputs = case.inputs
    gpa, before, stolen = inputs["parameters"]["address"], inputs["before"], inputs["stolen"][0]
    writes = [each for each in obs.list("writes") if isinstance(each, list) and len(each) == 2]
    stages = replayed(writes, gpa, STEAL.size, before)
    if not writes or stages is None:
        return fail("nothing was written to the page" if not writes else "a write lies outside the page", "layout")
    steal, version, *_ = STEAL.unpack(stages[-1])
    new = inputs["version"] + 2 & 0xFFFF_FFFF
    wanted = {"steal": stolen, "version": new}
    if not (finding := judge.same_values(wanted, {"steal": steal, "version": version}, "the page at the end")).ok:
        return fail(finding.message, "layout" if steal != stolen else "version")
    if obs.list("versions") != [new]:
        return fail("`publish_steal` must return the version that the page has now", "version")
    if stages[-1][12:] != before[12:]:
        return fail("the bytes behind the version have changed", "others")
    whole = [each.to_bytes(8, "little") + bytes(4) + before[12:] for each in (case.expected, stolen)]
    wrong, hint = torn(writes, gpa, STEAL.size, 8, before, whole)
    if wrong:
        return fail(f"a guest that reads at the wrong moment is told a wrong time: {wrong}", hint)
    return steal_seen(case, obs) if inputs["run"] else OK


def steal_seen(case: Case, obs: Observation) -> Finding:
    """The guest saw the old value some times, then the new one; how often depends on the number of writes."""
    old, new, parameters = case.expected, case.inputs["stolen"][0], case.inputs["parameters"]
    count = parameters["count"]
    possible = [expected_console("steal-reader", parameters, stolen=[old] * n + [new]) for n in range(count + 1)]
    return OK if obs.bytes("console") in possible else on_console(obs, possible[1], "layout")


ODD_LAST = Hint(
    "never-even", "The guest waits for an even version, for ever. The version is odd only while the page changes.",
    when="more than 6000|still running",
)  # fmt: skip
BYTES = Hint("pack", "A field didn't fit: `struct.pack` wants the letters `I` (4 bytes), `Q` (8) and `b` (one, "
             "signed), and whole numbers. The version has 32 bits: behind 0xFFFFFFFE comes 0, `version + 2 & "
             "0xFFFFFFFF`.", when="struct.error|error:")  # fmt: skip


def check(number: str, title: str, cases: Callable[..., Any], verdict: Callable[..., Any], *hints: Hint) -> Check:
    return Check(number, title, 1, exercise="publish", driver="clock_page", cases=cases, judge=verdict,
                 guests=("clock-reader",), hints=(*hints, ODD_LAST, BYTES, LOOP))  # fmt: skip


NOTHING = Hint("nothing", "Each call of `write(gpa, bytes)` is one write to the guest's memory.")
OUTSIDE = Hint("outside", "Addresses are the guest's: `gpa` is the first byte of the page's structure.")


CHECKS = (
    check(
        "07.6", "the page of kvmclock", layout, laid_out,
        NOTHING,
        Hint("layout", "Four bytes of version, four of padding, then tsc_timestamp (8), system_time (8), "
             "tsc_to_system_mul (4) and tsc_shift (1, signed). The classic mistake forgets the padding."),
        Hint("swapped", "tsc_timestamp comes before system_time."),
        OUTSIDE,
        Hint("odd", "The version stays odd: to the guest the page is never finished. After the fields, make it even."),
        Hint("version", "The version grows by 2 with each page: odd while it changes, then even. It has 32 bits."),
        Hint("return", "Return the version that the page has now: the next call will need it."),
    ),
    check(
        "07.6b", "no guest ever reads half a page", races, never_torn,
        Hint("odd-first", "The fields change while the version still says that the page is whole. The classic mistake "
             "writes the fields first, or never an odd version. First of all an odd version, then the fields, then the "
             "even one."),
        Hint("even-last", "The version is even while some fields are new and some old. The even version must be the "
             "very last write, by itself: a long write is no single step, and a guest may look in its middle."),
        NOTHING,
        OUTSIDE,
        Hint("console", "The page says another time than it should: see check 07.6."),
    ),
)  # fmt: skip

STEAL_CHECKS = (
    Check(
        "07.9", "the guest hears what was stolen", 1,
        exercise="publish_steal", driver="page_of_stolen_time", cases=steals, judge=steal_told,
        guests=("steal-reader",),
        hints=(
            Hint("layout", "`steal` is 8 bytes at +0, `version` 4 bytes at +8. It is not the page of kvmclock, whose "
                 "version comes first."),
            Hint("version", "The version, at +8, grows by 2: odd while the page changes, then even. Return it."),
            Hint("odd-first", "`steal` changes under an even version. First the odd version, then `steal`, then the "
                 "even version."),
            Hint("even-last", "The version is even again before `steal` is new. It must be the very last write."),
            OUTSIDE,
            Hint("others", "Behind the version are `flags` and `preempted`, which are not yours to write: the version "
                 "has 4 bytes, `I`, and no more."),
            ODD_LAST, BYTES, LOOP,
        ),
    ),
)  # fmt: skip
