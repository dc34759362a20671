"""Lab 06, a line becomes a request: an edge is one, a level one for as long as it lasts."""

from __future__ import annotations

from autograder.model import Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.lab06_bench import bench, chips, down, on_the_bench, pick, up
from autograder.stages.lab06_chip import Judge, chip_case, registers
from autograder.stages.lab06_hints import hints
from minivmm.devices.pic_chip import PicChip


def set_line(chip: PicChip, number: int, level: bool) -> None:
    chip.set_line(number, level)


def an_edge(nonces: Nonces) -> list[Case]:
    one, other = pick(nonces, "lines", 2, (0, 1, 3, 4, 5, 6, 7))
    theirs = {"set_line": "set_line"}
    first, second = pick(nonces, "guest lines", 2)
    script = [[0, up(first)], [1, up(second)], [2, up(first)], [3, down(first)], [4, up(first) + down(second)]]
    return [
        chip_case(f"line {one} that goes up", [(one, True)], set_line),
        chip_case(
            f"line {one} that stays up after its interrupt was taken",
            [(one, True), {"taken": one}, (one, True)],
            set_line,
        ),
        chip_case(
            f"lines {one} and {other} that both stay up",
            [(one, True), (other, True), {"taken": one}, (one, True)],
            set_line,
        ),
        chip_case(
            f"lines {one} and {other} that go up, down and up",
            [(one, True), (other, True), {"taken": one}, (one, False), (one, True), (other, False)],
            set_line,
        ),
        chip_case(
            f"line {one} that rises twice before its interrupt is taken",
            [(one, True), (one, False), (one, True)],
            set_line,
        ),
        chip_case(f"line {one} that goes up while it is masked", [(one, True)], set_line, imr=1 << one),
        chip_case(f"line {one} that goes up while its handler is at work", [(one, True)], set_line, isr=1 << one),
        bench("irq-log", chips(nonces), script, "a guest that waits for edges", theirs),
    ]


def a_level(nonces: Nonces) -> list[Case]:
    line, neighbour = pick(nonces, "line", 2, (3, 4, 5, 6, 7))
    shared = nonces.choice("shared", (3, 5, 6, 7, 9, 10, 11, 12))
    theirs = {"set_line": "set_line"}
    script = [[0, [["want", shared, 3]]], [1, []], [2, [["want", shared, 2]]], [3, [["want", shared, 3]]]]
    level = 1 << line
    guest = chips(nonces) | {"address": shared}
    return [
        chip_case(f"level-triggered line {line} that goes up and down", [(line, True), (line, False)], set_line,
                  elcr=level),
        chip_case(f"level-triggered line {line} that is still up after its interrupt", [
            (line, True), {"taken": line}, (line, True)], set_line, elcr=level),
        chip_case(f"level-triggered line {line} that is found up twice before its interrupt is taken",
                  [(line, True), (line, True)], set_line, elcr=level),
        chip_case(f"edge-triggered line {neighbour} beside level-triggered line {line}", [
            (neighbour, True), (line, True), (line, False), (neighbour, False)], set_line, elcr=level),
        chip_case(f"level-triggered lines {line} and {neighbour}, {line} in service", [
            (line, True), (neighbour, True), (line, False), (line, False)], set_line, elcr=level | 1 << neighbour,
            isr=level),
        bench("irq-shared", guest, script, f"two devices on line {shared}", theirs),
    ]  # fmt: skip


def lines(*hints: str) -> Judge:
    """06.3: IRR after each call; `hints` by the number of the case, the last one for the guest too."""

    def judged(case: Case, obs: Observation) -> Finding:
        if "calls" in case.inputs:
            return registers(
                case, obs, ("irr", "isr", "imr", "base"),
                lambda number, name: hint_of_line(case, obs, number, hints) if name == "irr" else "others",
            )  # fmt: skip
        return on_the_bench(case, obs, hints[-1])

    return judged


def hint_of_line(case: Case, obs: Observation, number: int, hints: tuple[str, ...]) -> str:
    """What the student has missed, by the bit that is wrong after call `number`."""
    held, call = obs.list("states")[number], case.inputs["calls"][number]
    actual, wanted = held.get("irr") if isinstance(held, dict) else None, case.expected["states"][number]["irr"]
    if type(actual) is not int or isinstance(call, dict):
        return hints[0]
    bit, up, before = 1 << call[0], call[1], case.inputs["chip"]
    if number == 0:
        return "masked" if before.get("imr") else "served" if before.get("isr") == bit else hints[0]
    if (actual ^ wanted) & ~bit:
        return "others"
    if actual & ~wanted:
        return hints[1]
    if up and case.expected["states"][number - 1]["irr"] & bit:
        return "twice"
    return hints[2] if up else "stays"


RISE = Hint("rise", "A line that goes up sets its bit in `chip.irr`: bit n for line n.")
LINE_HINTS = (
    Hint("masked", "A masked line is requested all the same: the mask (`chip.imr`) holds it back later, when `request` "
         "looks. Else a key that is struck while its line is masked would be lost."),
    Hint("served", "A line in service may be requested again: it waits in `chip.irr` until its handler is done."),
    Hint("stays", "A request of an edge stays when its line falls: that is the point of an edge. Only a level takes "
         "its request back, and the line's own bit in `chip.elcr` says which it is."),
    Hint("twice", "A request that waits already goes on waiting: set its bit, `|= bit`, whatever it was. The classic "
         "mistake toggles it, `^= bit`: the second rise takes the first one's request away."),
    Hint("others", "This line's bit changes and no other: `|= bit` sets it, `&= ~bit` clears it. What is in service is "
         "the processor's business, and the mask the guest's. (The classic mistakes: `=` for `|=`; all of `chip.lines` "
         "or `chip.elcr` looked at, not this line's bit.)"),
)  # fmt: skip


CHECKS = (
    Check(
        "06.3", "an edge is one request", 1,
        exercise="set_line", driver="on_the_bench", cases=an_edge,
        judge=lines("rise", "again", "later"),
        guests=("irq-log",),
        hints=hints(
            RISE,
            Hint("again", "A line that *stays* up is no new edge. The classic mistake looks at `level` alone; an "
                 "edge is a line that is up now and was down before: that is what `chip.lines` is for."),
            Hint("later", "After the line has been down, the next rise is a new edge. The classic mistake is not "
                 "to note in `chip.lines` that the line went down (or up), or to note it before it has been "
                 "looked at."),
            *LINE_HINTS,
        ),
    ),
    Check(
        "06.3b", "a level is a request for as long as it lasts", 1,
        exercise="set_line", driver="on_the_bench", cases=a_level,
        judge=lines("rise", "falls", "lasts"),
        guests=("irq-shared",),
        hints=hints(
            Hint("lasts", "A level-triggered line (its bit in `chip.elcr` is 1) requests again as long as it is "
                 "up, whatever it was before. With two devices on it, an edge would lose the second one."),
            RISE,
            Hint("falls", "A level-triggered line that falls takes its request with it; an edge-triggered one "
                 "does not. The classic mistake keeps the request: then an interrupt comes that nobody wants."),
            *LINE_HINTS,
        ),
    ),
)  # fmt: skip
