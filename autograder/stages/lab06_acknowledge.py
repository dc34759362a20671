"""Lab 06, the processor asks: what an acknowledge moves from requested to in service, and the spurious interrupt."""

from __future__ import annotations

from typing import Any

from autograder.model import Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.lab06_bench import bench, chips, nest_script, on_the_bench, pick, pulse
from autograder.stages.lab06_chip import chip_case, registers, values
from autograder.stages.lab06_hints import hints
from minivmm.devices.pic_chip import PicChip


def acknowledge(chip: PicChip, number: int | None) -> int:
    if number is None:
        return chip.base + 7
    chip.acknowledge(number)
    return chip.base + number


def taken(nonces: Nonces) -> list[Case]:
    low, one, high = sorted(pick(nonces, "three", 3, range(1, 8)))  # line 0 has a case of its own
    base = 8 * nonces.range("base", 4, 32)
    theirs = {"acknowledge": "acknowledge"}
    shared = nonces.choice("shared", (3, 5, 6, 7, 9, 10, 11, 12))
    script = [[0, [["want", shared, 3]]], [1, [["want", shared, 1]]]]
    return [
        chip_case(f"line {one} of the chip with base {base:#x}", [(one,)], acknowledge, irr=1 << one, base=base,
                  lines=1 << one),
        chip_case(f"lines {low} and {one} requested, {low} masked, {high} in service, and {one} taken", [(one,)],
                  acknowledge, irr=1 << low | 1 << one, imr=1 << low, isr=1 << high, base=base),
        chip_case("line 0", [(0,)], acknowledge, irr=1, base=base, lines=1),
        chip_case(f"edge-triggered line {one} beside level-triggered line {high}", [(one,)], acknowledge,
                  irr=1 << one | 1 << high, base=base, elcr=1 << high, lines=1 << one | 1 << high),
        chip_case(f"level-triggered line {one}, which stays up", [(one,)], acknowledge, irr=1 << one, base=base,
                  elcr=1 << one, lines=1 << one),
        bench("irq-nest", chips(nonces, name="nest"), nest_script(nonces, True), "handlers that may be interrupted",
              theirs),
        bench("irq-shared", chips(nonces) | {"address": shared}, script, f"two devices on line {shared}", theirs),
    ]  # fmt: skip


def glitches(nonces: Nonces) -> list[list[Any]]:
    one, other = pick(nonces, "glitch", 2, (3, 4, 5, 6))
    return [
        [0, [["glitch", one]]], [1, pulse(7)], [2, [["glitch", other]]], [3, pulse(1, 7)],
        [4, [["glitch", one], *pulse(1)]],
    ]  # fmt: skip


def nobody_there(nonces: Nonces) -> list[Case]:
    base = 8 * nonces.range("base", 4, 32)
    busy, masked = pick(nonces, "busy", 2, range(7))
    theirs = {"acknowledge": "acknowledge"}
    return [
        chip_case(f"no request left on the chip with base {base:#x}", [(None,)], acknowledge, base=base),
        chip_case("no request left but a masked one", [(None,)], acknowledge, base=base, irr=1 << masked,
                  imr=1 << masked, isr=1 << busy),
        chip_case("no request left but line 7's, masked", [(None,)], acknowledge, base=base, irr=1 << 7, imr=1 << 7),
        bench("irq-spurious", chips(nonces), glitches(nonces), "a line that falls too early", theirs),
    ]  # fmt: skip


def acknowledged(case: Case, obs: Observation) -> Finding:
    if "calls" not in case.inputs:
        return on_the_bench(case, obs, "level" if case.inputs["guest"] == "irq-shared" else "isr")
    chip, calls = case.inputs["chip"], case.inputs["calls"]

    def hint(number: int, name: str) -> str:
        if name != "irr":
            return name
        return "level" if chip.get("elcr", 0) >> calls[number][0] & 1 else "irr"

    if case.inputs["calls"] == [[0]] and not (finding := registers(case, obs, ("isr",), lambda *_: "zero")).ok:
        return finding
    finding = registers(case, obs, ("isr", "irr", "imr", "lines"), hint)
    return finding if not finding.ok else values(case, obs, "the vector", lambda *_: "vector")


def spurious(case: Case, obs: Observation) -> Finding:
    if "calls" not in case.inputs:
        return on_the_bench(case, obs, "untouched")
    finding = values(case, obs, "the vector", lambda *_: "seven")
    return finding if not finding.ok else registers(case, obs, ("isr", "irr"), lambda *_: "untouched")


CHECKS = (
    Check(
        "06.5", "a request that is taken is in service", 1,
        exercise="acknowledge", driver="on_the_bench", cases=taken, judge=acknowledged,
        guests=("irq-nest", "irq-shared"),
        hints=hints(
            Hint("vector", "The vector is `chip.base + number`."),
            Hint("isr", "The line is in service from now on: its bit in `chip.isr` becomes 1, and the other bits "
                 "stay. The classic mistake assigns (`=`) where bits should be added (`|=`)."),
            Hint("irr", "An edge's request is taken: its bit in `chip.irr` becomes 0, and only its bit."),
            Hint("level", "A level-triggered line is still up: its request stays until the *line* falls. The "
                 "classic mistake clears it as if it were an edge, and the second device on the line waits for "
                 "ever."),
            Hint("zero", "Line 0 is a line like any other. The classic mistake is `if not number`, which takes it "
                 "for None; ask `number is None`."),
            Hint("imr", "The mask belongs to the guest; an interrupt does not change it."),
            Hint("lines", "Whether a line is up is the device's affair: an acknowledge moves no line."),
        ),
    ),
    Check(
        "06.5b", "no request left: the spurious IRQ7", 1,
        exercise="acknowledge", driver="on_the_bench", cases=nobody_there, judge=spurious,
        guests=("irq-spurious",),
        hints=hints(
            Hint("seven", "The processor has asked and must get a vector: with no request left (`number` is "
                 "None) it is `chip.base + 7`.", when="TypeError"),
            Hint("untouched", "A spurious interrupt is nobody's: `isr` and `irr` stay as they are. The classic "
                 "mistake puts line 7 in service; a guest that is careful sends no end for it, and lines 7 and "
                 "up never come again."),
        ),
    ),
)  # fmt: skip
