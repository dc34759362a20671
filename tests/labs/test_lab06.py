"""What is special about lab 06: its chips against the library's, its guests on every backend, other right answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.drivers import lab06 as drivers
from autograder.drivers import lab06_bench as bench
from autograder.drivers.base import Student
from autograder.drivers.lab06_parts import Parts
from autograder.nonces import Nonces
from autograder.registry import installed
from autograder.stages import lab06_bench as cases
from autograder.stages.lab06_acknowledge import glitches
from autograder.stages.models import expected_console
from minivmm import resources
from minivmm.devices.pic import Pic
from minivmm.kvm import calls

LAB = installed().lab("06")
SOURCE = (resources.folder("solutions") / "lab06.py").read_text(encoding="utf-8")


# ---- the checks ----


def test_the_lab_is_worth_twenty_points_on_many_guests():
    assert LAB.max_score == 20
    assert sum(check.points == 0 for check in LAB.checks) == 3
    used = {name for check in LAB.checks for name in check.guests}
    assert len(used) == 10


@pytest.mark.parametrize("seed", range(20))
def test_no_vector_of_a_guest_is_one_of_the_processor_s_own(seed):
    for check in LAB.checks:
        for case in check.cases(Nonces(seed, "06", check.id)):
            value = case.inputs.get("parameters", {}).get("value", 0x2820)
            if "irq" in case.inputs.get("guest", ""):
                assert value & 0xFF != value >> 8
                assert min(value & 0xFF, value >> 8) >= 0x20


# ---- the guests ----


@pytest.fixture
def on_backend(backend: Any) -> Any:
    previous = calls.use(backend)
    yield
    calls.use(previous)


@dataclass
class Random:
    """Scripts of all kinds for the irq guests, from a seed."""

    nonces: Nonces

    def lines(self, name: str, most: int = 4) -> list[list[Any]]:
        return cases.pulse(*cases.pick(self.nonces, name, self.nonces.range(f"{name} size", 0, most + 1)))

    def script(self, nest: bool) -> list[list[Any]]:
        steps = [[step, self.lines(f"step {step}")] for step in range(4)]
        inside = [[0x80 + line, self.lines(f"in {line}", 1)] for line in range(16)]
        return steps + (inside if nest else [])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["irq-log", "irq-nest", "irq-spurious"])
def test_irq_guests_do_what_their_models_say(on_backend, name, seed):
    draw = Random(Nonces(seed, "06", name))
    command = (cases.NONSPECIFIC, cases.SPECIFIC)[seed % 2]
    parameters = cases.chips(draw.nonces, seed * 0x1111 & 0xFFFB, command) | {"count": 4}
    script = draw.script(name == "irq-nest")
    if name == "irq-spurious":
        script = glitches(draw.nonces)[:4]
    seen = bench.run(Parts(), {"guest": name, "parameters": parameters, "script": script})
    assert (seen["stop"], seen["console"]) == ("ended", expected_console(name, parameters, script=script))


@pytest.mark.parametrize("line", [3, 5, 9, 14])
def test_a_shared_line_serves_both_devices(on_backend, line):
    parameters = cases.chips(Nonces(line, "06", "shared")) | {"address": line, "count": 3}
    script = [[0, [["want", line, 3]]], [1, [["want", line, 2]]], [2, []]]
    seen = bench.run(Parts(), {"guest": "irq-shared", "parameters": parameters, "script": script})
    assert seen["console"] == expected_console("irq-shared", parameters, script=script)
    assert re.findall(rb"[AB?]+", seen["console"].replace(b" ", b"")[:3]) == [b"AB"]


def test_a_guest_without_a_handler_for_a_vector_says_which_it_was(on_backend):
    parameters = {"nonce": 1, "value": 0x7028, "count": 1}
    parts = Parts({"inta": lambda master, slave: 0x99})
    seen = bench.run(parts, {"guest": "irq-log", "parameters": parameters, "script": [[0, cases.up(3)]]})
    assert (seen["stop"], seen["vector"]) == ("stray", 0x99)


def test_a_storm_of_interrupts_ends_by_count_not_by_the_clock(on_backend):
    inputs = {"guest": "irq-log", "parameters": {"nonce": 1, "value": 0x7028, "count": 1}, "script": [[0, cases.up(3)]]}
    parts = Parts({"acknowledge": lambda chip, number: chip.base + (number or 0)})
    seen = bench.run(parts, inputs)
    # Where the window opens at once, the guest gets nowhere; where it opens late, it comes to its end all the same.
    assert seen["stop"] in ("endless", "ended")
    assert seen["console"].startswith(b"33")


def test_nobody_offers_and_the_guest_runs_past_its_halt(on_backend):
    """A HLT that KVM has left is over: entering again goes on behind it, interrupt or not."""
    inputs = {"guest": "sti-hlt", "parameters": {"nonce": 1, "value": 0x7028, "count": 1}, "script": [[0, cases.up(3)]]}
    seen = drivers.interrupts_offered(Student({"offer": lambda *_: None}, "offer"), inputs)
    assert seen["stop"] == "ended"
    assert not seen["console"].startswith(b"1")


# ---- the solution's chips against the library's ----


def answers() -> dict[str, Any]:
    """What the solution defines in its tasks, and the class `Chip`."""
    cells = re.split(r"^# %%", SOURCE, flags=re.MULTILINE)
    wanted = [cell for cell in cells if re.match(r' exercise="06\.\d+"', cell)]
    wanted += [cell.partition("predict(")[0] for cell in cells if "class Chip:" in cell]
    names: dict[str, Any] = {"dataclass": dataclass}
    exec("\n".join("#" + cell for cell in wanted), names)
    return names


OURS = answers()
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("line"), st.sampled_from(cases.LINES), st.booleans()),
        st.tuples(st.just("mask"), st.integers(0, 1), st.integers(0, 255)),
        st.tuples(st.just("end"), st.integers(0, 1), st.sampled_from([0x20, *range(0x60, 0x68)])),
        st.tuples(st.just("take"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(ACTIONS, st.integers(0, 255), st.integers(0, 255))
def test_the_solution_s_chips_do_what_the_library_s_do(actions, master_levels, slave_levels):
    pic, chips = Pic(), (OURS["Chip"](), OURS["Chip"]())
    for number, (chip, levels) in enumerate(zip(chips, (master_levels & 0xF8, slave_levels & 0xDE), strict=True)):
        chip.elcr = levels
        pic.set_triggers(number, levels)
        for port, value in ((0, 0x11), (1, 0x20 + 8 * number), (1, 4), (1, 1), (1, 0)):
            pic.write_port(number, port, value)
            OURS["write"](chip, port, value)
    for kind, which, value in actions:
        if kind == "line":
            pic.set_line(which, value)
            OURS["set_line"](chips[which >> 3], which & 7, value)
        elif kind == "mask":
            pic.write_port(which, 1, value)
            OURS["write"](chips[which], 1, value)
        elif kind == "end":
            pic.write_port(which, 0, value)
            OURS["write"](chips[which], 0, value)
        elif OURS["intr"](*chips):
            assert OURS["inta"](*chips) == pic.acknowledge()
        assert OURS["intr"](*chips) == pic.intr
    assert [(chip.isr, chip.imr) for chip in chips] == [(chip.isr, chip.imr) for chip in pic.chips]


# ---- other right answers ----

OTHER_ANSWERS = {
    "a pair of words by struct": (
        'return int.from_bytes(old[2:], "little"), int.from_bytes(old[:2], "little")',
        "return old[2] | old[3] << 8, old[0] + 256 * old[1]",
    ),
    "a bytearray for the gate": (
        "    return (\n        (handler & 0xFFFF)",
        "    return bytearray(\n        (handler & 0xFFFF)",
    ),
    "bits looked at one by one": (
        "    chip.lines = chip.lines | bit if level else chip.lines & ~bit\n",
        "    if level:\n        chip.lines |= bit\n    else:\n        chip.lines &= 0xFF ^ bit\n",
    ),
    "the lowest bit by arithmetic": (
        "        chip.isr &= chip.isr - 1\n",
        "        chip.isr ^= chip.isr & -chip.isr\n",
    ),
    "intr called where the wire is meant": (
        "    if number == 2:\n        vector = acknowledge(slave, request(slave))\n        intr(master, slave)\n",
        "    if number == 2:\n        vector = acknowledge(slave, request(slave))\n"
        "        set_line(master, 2, request(slave) is not None)\n",
    ),
    "the window in two branches": (
        "    run.request_interrupt_window = intr()\n",
        "    run.request_interrupt_window = 0\n    if intr():\n        run.request_interrupt_window = 1\n",
    ),
    "the window only where it could not hand over": (
        "    if intr() and run.ready_for_interrupt_injection:\n"
        '        ioctl(vcpu, KVM_INTERRUPT, struct("kvm_interrupt", irq=inta()))\n'
        "    run.request_interrupt_window = intr()\n",
        "    run.request_interrupt_window = 0\n    if not intr():\n        return\n"
        "    if run.ready_for_interrupt_injection:\n"
        '        ioctl(vcpu, KVM_INTERRUPT, struct("kvm_interrupt", irq=inta()))\n'
        "    else:\n        run.request_interrupt_window = 1\n",
    ),
    "a line that is down lowered once more": ("    for level in (1, 0):\n", "    for level in (0, 1, 0):\n"),
    "the old request on a turned chip": (
        "    waiting = chip.irr & ~chip.imr\n    for n in range(8):\n",
        "    turned = Chip(*((x << 8 | x) >> chip.top & 0xFF for x in (chip.irr, chip.imr, chip.isr)))\n"
        "    first = request(turned)\n    return None if first is None else (first + chip.top) % 8\n"
        "    for n in range(8):\n",
    ),
    "True and False for the status": ("        return 1 if waiting else 0\n", "        return bool(waiting)\n"),
    # What becomes of the ISR at ICW1 is open: see `words` in autograder/stages/lab06_words.py.
    "an ICW1 that ends all service, as QEMU's does": (
        "        chip.icw, chip.imr, chip.irr, chip.read_isr = 2, 0, chip.irr & chip.elcr, False\n",
        "        chip.icw, chip.imr, chip.irr, chip.read_isr, chip.isr = 2, 0, chip.irr & chip.elcr, False, 0\n",
    ),
    "the wire let down by hand": (
        "        intr(master, slave)\n    return vector\n",
        "        set_line(master, 2, False)\n    return vector\n",
    ),
    "a loop that hands on functions of its own": (
        "        offer(vcpu, run, intr, inta)\n",
        "        offer(vcpu, run, lambda: intr(), lambda: inta())\n",
    ),
    "a counter that goes on after its NMI": (
        "    ioctl(vcpu, KVM_NMI)\n    return 0\n",
        "    if count + 1 == patience:\n        ioctl(vcpu, KVM_NMI)\n    return count + 1\n",
    ),
}


@pytest.mark.parametrize("change", OTHER_ANSWERS.values(), ids=list(OTHER_ANSWERS))
def test_another_right_answer_has_full_marks(change, marks_lost):
    assert marks_lost("06", change) == []
