"""Lab 06, the end of an interrupt: the usual one, the specific one, and commands that end nothing."""

from __future__ import annotations

from autograder.model import Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.lab06_bench import bench, chips, nest_script, on_the_bench, pick
from autograder.stages.lab06_chip import Judge, chip_case, registers
from autograder.stages.lab06_hints import hints
from minivmm.devices.pic_chip import PicChip

NONSPECIFIC, SPECIFIC, ROTATING = 0x20, 0x60, 0xA0


def end_of_interrupt(chip: PicChip, command: int) -> None:
    chip.write(0, command)


def the_usual_end(nonces: Nonces) -> list[Case]:
    low, middle, high = sorted(pick(nonces, "three", 3, range(8)))
    theirs = {"end_of_interrupt": "end_of_interrupt"}
    script = nest_script(nonces, True)
    return [
        chip_case(f"line {middle} in service", [(0x20,)], end_of_interrupt, isr=1 << middle),
        chip_case(f"lines {low} and {high} in service", [(0x20,), (0x20,)], end_of_interrupt, isr=1 << low | 1 << high),
        chip_case(f"lines 0 and {high} in service", [(0x20,), (0x20,)], end_of_interrupt, isr=1 | 1 << high),
        chip_case("nothing in service", [(0x20,)], end_of_interrupt, irr=1 << low),
        chip_case(f"line {middle} in service and line {low} requested", [(0x20,)], end_of_interrupt, irr=1 << low,
                  isr=1 << middle),
        bench("irq-nest", chips(nonces), script, "handlers that may be interrupted", theirs),
    ]  # fmt: skip


def the_other_ends(nonces: Nonces) -> list[Case]:
    low, middle, high = sorted(pick(nonces, "three", 3, range(8)))
    theirs = {"end_of_interrupt": "end_of_interrupt"}
    three = 1 << low | 1 << middle | 1 << high
    return [
        chip_case(f"lines {low}, {middle} and {high} in service, and the specific command for {middle}",
                  [(0x60 | middle,)], end_of_interrupt, isr=three),
        chip_case(f"lines {low} and {high} in service, and the specific command for {middle}", [(0x60 | middle,)],
                  end_of_interrupt, isr=three & ~(1 << middle)),
        chip_case("lines 3 and 7 in service, and the specific command for 7", [(0x67,)], end_of_interrupt,
                  isr=1 << 3 | 1 << 7),
        chip_case("commands without the EOI bit", [(0x40 | low,), (0x00,), (0x80,)], end_of_interrupt, isr=three),
        chip_case(f"line {high} in service, and the specific command for line 0", [(0x60,)], end_of_interrupt,
                  isr=1 << max(high, 1)),
        chip_case(f"the end and a rotation, with line {high} in service", [(0xA0,)], end_of_interrupt, isr=1 << high),
        chip_case(f"the end of line {middle} and a rotation", [(0xE0 | middle,)], end_of_interrupt, isr=three),
        bench("irq-nest", chips(nonces, command=SPECIFIC), nest_script(nonces, True),
              "a guest that names the line which ends", theirs),
    ]  # fmt: skip


def ends(wrong: str) -> Judge:
    """06.6: what is still in service after a command."""

    def judged(case: Case, obs: Observation) -> Finding:
        if "calls" not in case.inputs:
            return on_the_bench(case, obs, wrong)

        def hint(number: int, name: str) -> str:
            if name == "irr":
                return "requests"
            (command,) = case.inputs["calls"][number]
            return "no-eoi" if not command & 0x20 else "rotate" if command & 0x80 else wrong

        return registers(case, obs, ("isr", "irr"), hint)

    return judged


REQUESTS = Hint("requests", "An end touches `isr` only: what is requested meanwhile must come later.")


CHECKS = (
    Check(
        "06.6", "the usual end: the most urgent in service", 1,
        exercise="end_of_interrupt", driver="on_the_bench", cases=the_usual_end,
        judge=ends("highest"),
        guests=("irq-nest",),
        hints=hints(
            Hint("highest", "The command 0x20 names no line: it ends the one with the *lowest* number in service, "
                 "which is the one that began last. The classic mistakes: all of `isr` is cleared, or the "
                 "highest number."),
            REQUESTS,
            Hint("no-eoi", "Nothing to end: leave the chip alone.", when="ValueError|IndexError|TypeError"),
        ),
    ),
    Check(
        "06.6b", "the specific end, and commands that end nothing", 1,
        exercise="end_of_interrupt", driver="on_the_bench", cases=the_other_ends,
        judge=ends("specific"),
        guests=("irq-nest",),
        hints=hints(
            Hint("specific", "With bit 6 set the command names its line in bits 0–2: that one ends, and no "
                 "other. The classic mistakes: treated as 0x20; or the bit *toggled* (`^=`), which puts a line "
                 "in service that was not."),
            Hint("no-eoi", "Without bit 5 (0x20) a command ends nothing: 0x40 is no operation, 0x00 and 0x80 are "
                 "about priorities.", when="ValueError"),
            Hint("rotate", "Bit 5 says that an interrupt ends, whatever bit 7 says: 0xA0 ends as 0x20 does, "
                 "0xE0 + n as 0x60 + n. The classic mistake compares the whole byte; test its bits."),
            REQUESTS,
        ),
    ),
)  # fmt: skip
