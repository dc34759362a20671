"""Lab 06, two chips: the wire between them, whose vector counts, and spurious interrupts at either."""

from __future__ import annotations

from typing import Any

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.lab06_acknowledge import acknowledge
from autograder.stages.lab06_bench import bench, chips, on_the_bench, pick, pulse
from autograder.stages.lab06_chip import Judge, in_bits, values
from autograder.stages.lab06_hints import hints
from minivmm.devices.pic_chip import PicChip


def pair_case(label: str, name: str, master: dict[str, Any], slave: dict[str, Any], times: int = 1) -> Case:
    """`intr` or `inta` on two chips."""
    one, two = PicChip(**master), PicChip(**slave)
    values = [(intr if name == "intr" else inta)(one, two) for _ in range(times)]
    names = ("irr", "isr", "lines")
    states = [{each: getattr(chip, each) for each in names} for chip in (one, two)]
    expected = {"values": values, "master": states[0], "slave": states[1]}
    return Case({"master": master, "slave": slave, "times": times}, expected, label)


def intr(master: PicChip, slave: PicChip) -> bool:
    master.set_line(2, slave.request() is not None)
    return master.request() is not None


def inta(master: PicChip, slave: PicChip) -> int:
    number = master.request()
    vector = acknowledge(master, number)
    if number == 2:
        vector = acknowledge(slave, slave.request())
        intr(master, slave)
    return vector


def cascade(nonces: Nonces) -> list[Case]:
    one = nonces.range("line", 0, 8)
    mine = nonces.choice("mine", (0, 1, 3, 4, 5, 6, 7))
    theirs = {"intr": "intr"}
    lines = [pick(nonces, f"step {step}", 4, range(8, 16)) for step in range(2)]
    script = [[0, pulse(*lines[0])], [1, pulse(*pick(nonces, "mixed", 4))], [2, pulse(*lines[1])]]
    return [
        pair_case("both chips idle", "intr", {}, {}),
        pair_case(f"line {mine} of the master requested", "intr", {"irr": 1 << mine}, {}),
        pair_case("line 0 of the master requested", "intr", {"irr": 1}, {}),
        pair_case("line 8 requested", "intr", {}, {"irr": 1}),
        pair_case(f"line {8 + one} requested", "intr", {}, {"irr": 1 << one}),
        pair_case(f"line {8 + one} requested, and masked at the slave", "intr", {}, {"irr": 1 << one, "imr": 1 << one}),
        pair_case(f"line {8 + one} requested, and line 2 masked at the master", "intr", {"imr": 4}, {"irr": 1 << one}),
        pair_case(f"line {8 + one} whose request is gone", "intr", {"lines": 4}, {}),
        pair_case("line 5 of the master requested, while line 1 is in service", "intr",
                  {"irr": 1 << 5, "isr": 1 << 1}, {}),
        pair_case("line 13 requested, while line 9 is in service", "intr", {"isr": 4}, {"irr": 1 << 5, "isr": 1 << 1}),
        pair_case(f"line {8 + one} requested, and its edge already taken", "intr", {"isr": 4, "lines": 4},
                  {"irr": 1 << one}),
        bench("irq-log", chips(nonces), script, "lines of both chips", theirs),
    ]  # fmt: skip


def both_vectors(nonces: Nonces) -> list[Case]:
    one, other = sorted(pick(nonces, "two", 2, range(8)))
    mine = nonces.choice("mine", (3, 4, 5, 6, 7))
    bases = {"base": 8 * nonces.range("base", 4, 18)}, {"base": 8 * nonces.range("slave's base", 18, 32)}
    theirs = {"inta": "inta"}
    slave = bases[1] | {"irr": 1 << one | 1 << other}
    master = bases[0] | {"irr": 4, "lines": 4}
    lines = [pick(nonces, f"step {step}", 5) for step in range(2)]
    script = [[0, pulse(*lines[0])], [1, pulse(*pick(nonces, "slave's", 3, range(8, 16)))], [2, pulse(*lines[1])]]
    return [
        pair_case(f"line {mine} of the master", "inta", bases[0] | {"irr": 1 << mine}, bases[1]),
        pair_case(f"line {8 + one}", "inta", master, slave | {"irr": 1 << one}),
        pair_case(f"lines {8 + one} and {8 + other} at once", "inta", master, slave),
        pair_case(f"line 1 of the master and line {8 + one} at once", "inta", master | {"irr": 6}, slave),
        bench("irq-log", chips(nonces), script, "lines of both chips", theirs),
    ]


def both_spurious(nonces: Nonces) -> list[Case]:
    one, other, third = pick(nonces, "three", 3, range(8, 15))
    mine = nonces.choice("mine", (0, 1, 3))
    bases = {"base": 8 * nonces.range("base", 4, 18)}, {"base": 8 * nonces.range("slave's base", 18, 32)}
    theirs = {"inta": "inta"}
    script = [
        [0, [["glitch", one]]], [1, pulse(15)], [2, [["glitch", nonces.choice("low", (4, 5, 6))]]],
        [3, pulse(mine)], [4, [["glitch", other]]], [5, pulse(third, mine)],
    ]  # fmt: skip
    return [
        pair_case("no request left at either chip", "inta", *bases),
        pair_case("a slave whose request is gone", "inta", bases[0] | {"irr": 4}, bases[1]),
        bench("irq-spurious", chips(nonces), script, "lines of both chips that fall too early", theirs),
    ]


def pair(answer: str, registers: str, wire: str) -> Judge:
    """06.8 and 06.9: what `intr` or `inta` returned, and what it left behind: in ISR and IRR, and on the wire between
    the chips, by which the guest hears of it."""
    hints = {"isr": registers, "irr": registers, "lines": wire}

    def judged(case: Case, obs: Observation) -> Finding:
        if "times" not in case.inputs:
            return on_the_bench(case, obs, wire)
        up, wanted_up = obs.dict("master").get("lines"), case.expected["master"]["lines"]
        raised = type(up) is int and up & 4 and not wanted_up & 4  # the wire is up and should be down
        finding = values(case, obs, "the answer", lambda *_: wire if raised else answer)
        if not finding.ok:
            return finding
        for name, where in (("isr", ("master", "slave")), ("irr", ("master", "slave")), ("lines", ("master",))):
            for chip in where:
                held, wanted = obs.dict(chip), case.expected[chip]
                mask = 4 if name == "lines" else 0xFF  # of the lines, the wire between the chips only
                actual = held.get(name)
                if type(actual) is not int or actual & mask != wanted[name] & mask:
                    text = f"the {chip}'s `{name}` is {in_bits(name, actual)} afterwards"
                    return fail(f"{text}, where {in_bits(name, wanted[name])} is expected", hints[name])
        return OK

    return judged


CHECKS = (
    Check(
        "06.8", "the slave's requests reach the master", 1,
        exercise="intr", driver="on_the_bench", cases=cascade,
        judge=pair("answer", "wire", "wire"),
        guests=("irq-log",),
        hints=hints(
            Hint("answer", "INTR is up if the *master* has a request that need not wait, its own or the slave's "
                 "by line 2: return True or False, after line 2 has been set. The classic mistake takes the number "
                 "for a truth: 0 is a line, too, at the master (the timer) and at the slave (line 8)."),
            Hint("wire", "Line 2 of the master *is* the slave's output: up while the slave has a request, down "
                 "when it has none. The classic mistakes: only raised, so that it never makes a second edge; or "
                 "raised for requests that are masked or must wait (`slave.irr` in place of `request(slave)`); or let "
                 "down and raised again each time, which makes an edge of a wire that has not moved."),
        ),
    ),
    Check(
        "06.9", "the vector comes from the chip that has the line", 1,
        exercise="inta", driver="on_the_bench", cases=both_vectors,
        judge=pair("vector", "both", "wire"),
        guests=("irq-log",),
        hints=hints(
            Hint("vector", "Return what `acknowledge` gave: the master's vector, or the *slave's* if the master's "
                 "line is 2. For any other line the slave is not asked, whatever it has."),
            Hint("both", "For a line of the slave's both chips are acknowledged: the slave's line, and line 2 of "
                 "the master, are in service. The classic mistake leaves the master out, and the guest's second "
                 "EOI ends somebody else's interrupt."),
            Hint("wire", "After the slave has been acknowledged its output falls: let line 2 of the master fall "
                 "with it (call `intr`). The classic mistake leaves the wire up: the next request of the slave "
                 "makes no edge and is lost."),
        ),
    ),
    Check(
        "06.9b", "spurious at either chip", 1,
        exercise="inta", driver="on_the_bench", cases=both_spurious,
        judge=pair("vector", "master", "master"),
        guests=("irq-spurious",),
        hints=hints(
            Hint("vector", "`request` may be None, at the master and at the slave: hand that on to `acknowledge`, "
                 "which knows what to do. A slave without a request gives *its* line 7: IRQ15.",
                 when="TypeError"),
            Hint("master", "Behind a spurious IRQ15 the master did have a request, on line 2: it is in service at "
                 "the master, and nothing is at the slave."),
        ),
    ),
)  # fmt: skip
