"""What the checks of lab 06 ask: vectors, gates, chips in many states, guests whose interrupt lines follow a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autograder.model import Case
from autograder.nonces import Nonces
from autograder.stages import lab06_models as models
from autograder.stages.models import expected_console
from minivmm.devices.pic_chip import PicChip

NONSPECIFIC, SPECIFIC, ROTATING = 0x20, 0x60, 0xA0
CHIP_REGISTERS = ("irr", "imr", "isr", "lines", "base", "read_isr")
LINES = (0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)  # 2 is the cascade


# ---- parts of cases ----


def chips(nonces: Nonces, masks: int = 0, command: int = NONSPECIFIC, name: str = "") -> dict[str, int]:
    """Parameters of a guest of the irq family: vectors at random places, never among the processor's own."""
    first, second = pick(nonces, f"bases {name}", 2, range(4, 32))
    return {
        "nonce": nonces.u64(f"nonce {name}"),
        "value": first << 3 | second << 11,
        "option": masks | command << 16,
    }


def up(*numbers: int) -> list[list[Any]]:
    return [["line", number, 1] for number in numbers]


def down(*numbers: int) -> list[list[Any]]:
    return [["line", number, 0] for number in numbers]


def pulse(*numbers: int) -> list[list[Any]]:
    return [action for number in numbers for action in up(number) + down(number)]


def bench(
    guest: str, parameters: dict[str, int], script: Sequence[Any], label: str, theirs: dict[str, str], **host: Any
) -> Case:
    """A guest on the bench: `script` is what happens at each step."""
    steps = 1 + max(step for step, _ in script if step < 0x80)
    parameters = {**parameters, "count": steps}
    told = {"script": script} if guest not in ("irq-window", "sti-hlt") else {}
    expected = {"console": expected_console(guest, parameters, **told, **host)}
    inputs = {"guest": guest, "parameters": parameters, "script": [list(each) for each in script], "theirs": theirs}
    return Case(inputs, expected, label)


def pick(nonces: Nonces, name: str, count: int, among: Sequence[int] = LINES) -> list[int]:
    """So many different numbers, in no order."""
    left, taken = list(among), []
    for number in range(count):
        taken.append(left.pop(nonces.range(f"{name} {number}", 0, len(left))))
    return taken


def mask_of(numbers: Sequence[int]) -> int:
    return sum(1 << number for number in numbers)


# ---- 06.1 hook ----


def hooked(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(2):
        vectors = pick(nonces, f"vectors{run}", 4, range(0x60, 0x68))

        def handlers(name: str, wanted: Sequence[int], first: int, run: int = run) -> list[list[int]]:
            # Each handler has a paragraph of its own, so that none overwrites another.
            places = [0x2000 + 0x100 * (first + n) + nonces.range(f"{name}{run}{n}", 1, 15) for n in range(len(wanted))]
            offsets = [nonces.range(f"{name} offset {run}{n}", 1, 0xFFF) for n in range(len(wanted))]
            values = nonces.bytes(f"{name} values {run}", len(wanted))
            return [list(each) for each in zip(wanted, places, offsets, values, strict=True)]

        first = handlers("first", range(0x60, 0x68), 0)
        then = handlers("then", vectors, 16)
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "count": 24}
        answers = {vector: value for vector, _, _, value in first + then}
        olds = [[first[vector - 0x60][1], first[vector - 0x60][2]] for vector in vectors]
        expected = {"console": expected_console("ivt-caller", parameters, answers=answers), "olds": olds}
        expected["then"] = then
        inputs = {"guest": "ivt-caller", "parameters": parameters, "first": first, "then": then}
        cases.append(Case(inputs, expected, f"the vectors {', '.join(f'{vector:#x}' for vector in vectors)}"))
    return cases


# ---- 06.2 gate ----

CODE64 = 0x18  # in the flat GDT that a long-mode guest starts with


def gates(nonces: Nonces) -> list[Case]:
    cases = []
    half = 0xFFFF_FF80_0000_0000
    for run, (label, above, trap) in enumerate(
        (
            ("an interrupt gate, and a handler below 1 MiB", 0, False),
            ("a trap gate", 0, True),
            ("a handler in the upper half of the address space", half, False),
        )
    ):
        place = 0xA0000 + nonces.range(f"place{run}", 1, 0x4FFFF)
        number = nonces.range(f"number{run}", 1, 0xFFFF_FFFF)
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "address": 0x20000, "count": 2}
        console = expected_console("gate-caller", parameters, number=number, trap=trap)
        handler = above + place
        inputs = {"guest": "gate-caller", "parameters": parameters, "place": place, "number": number}
        inputs |= {"handler": handler, "selector": CODE64, "trap": trap}
        cases.append(Case(inputs, {"console": console}, label))
    return cases


# ---- one chip by itself ----


def chip_case(label: str, calls: Sequence[Any], model: Callable[..., Any], **fields: Any) -> Case:
    """Calls of the student's function, and what it should return and leave behind: `model` on the library's chip."""
    chip = PicChip(**fields)
    values: list[Any] = []
    states = []
    for arguments in calls:
        if isinstance(arguments, dict):
            chip.irr &= ~(1 << arguments["taken"])
            values.append(None)
        else:
            values.append(model(chip, *arguments))
        states.append({name: getattr(chip, name) for name in CHIP_REGISTERS})
    plain = [call if isinstance(call, dict) else list(call) for call in calls]
    return Case({"chip": fields, "calls": plain}, {"values": values, "states": states}, label)


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
        chip_case(f"edge-triggered line {neighbour} beside level-triggered line {line}", [
            (neighbour, True), (line, True), (line, False), (neighbour, False)], set_line, elcr=level),
        chip_case(f"level-triggered lines {line} and {neighbour}, {line} in service", [
            (line, True), (neighbour, True), (line, False), (line, False)], set_line, elcr=level | 1 << neighbour,
            isr=level),
        bench("irq-shared", guest, script, f"two devices on line {shared}", theirs),
    ]  # fmt: skip


def request(chip: PicChip) -> int | None:
    return chip.request()


def who_is_first(nonces: Nonces) -> list[Case]:
    low, high = sorted(pick(nonces, "two", 2, range(1, 7)))
    base = 8 * nonces.range("base", 4, 32)
    masked = chips(nonces, mask_of(pick(nonces, "masked", 3, LINES[:7])))
    theirs = {"request": "request"}
    lines = [pick(nonces, f"step {step}", 5, LINES[:7]) for step in range(3)]
    script = [[step, pulse(*numbers)] for step, numbers in enumerate(lines)]
    return [
        chip_case("no line requested", [()], request, base=base),
        chip_case(f"lines {high} and {low} requested", [()], request, irr=1 << low | 1 << high, base=base),
        chip_case(f"lines {low} and {high} requested, {low} masked", [()], request, irr=1 << low | 1 << high,
                  imr=1 << low | 1 << 0),
        chip_case("line 7 requested", [()], request, irr=1 << 7, base=base),
        chip_case("line 0 requested", [()], request, irr=1, base=base),
        chip_case(f"only line {high} requested, and masked", [()], request, irr=1 << high, imr=1 << high),
        bench("irq-log", masked, script, "several lines at once, some of them masked", theirs),
    ]  # fmt: skip


def nest_script(nonces: Nonces, slave: bool) -> list[list[Any]]:
    """Four steps of one line each, in whose handler a more and a less urgent one come."""
    urgent, middle, other = sorted(pick(nonces, "nest", 3, (0, 1, 3, 4, 5, 6, 7)))
    script = [
        [0, pulse(middle)], [0x80 + middle, pulse(other, urgent)],
        [1, pulse(other)], [0x80 + other, []], [0x80 + other, pulse(middle, other)],
        [0x80 + urgent, []], [2, pulse(urgent)], [0x80 + urgent, pulse(middle)],
    ]  # fmt: skip
    if slave:
        script += [[3, pulse(8 + middle)], [0x80 + 8 + middle, pulse(8 + urgent, 0)]]
    return script


def who_must_wait(nonces: Nonces) -> list[Case]:
    low, middle, high = sorted(pick(nonces, "three", 3, range(8)))
    theirs = {"request": "request"}
    named = f"line {middle} in service"
    return [
        chip_case(f"{named} and line {high} requested", [()], request, irr=1 << high, isr=1 << middle),
        chip_case(f"{named} and line {low} requested", [()], request, irr=1 << low, isr=1 << middle),
        chip_case(f"{named} and requested again", [()], request, irr=1 << middle, isr=1 << middle),
        chip_case(f"{named}, masked meanwhile, and line {high} requested", [()], request, irr=1 << high,
                  isr=1 << middle, imr=1 << middle),
        chip_case(f"line {high} in service, interrupted by line {low}, and line {middle} requested", [()], request,
                  irr=1 << middle, isr=1 << low | 1 << high),
        bench("irq-nest", chips(nonces), nest_script(nonces, True), "handlers that may be interrupted", theirs),
    ]  # fmt: skip


def acknowledge(chip: PicChip, number: int | None) -> int:
    if number is None:
        return chip.base + 7
    chip.acknowledge(number)
    return chip.base + number


def taken(nonces: Nonces) -> list[Case]:
    one, other = pick(nonces, "two", 2, range(8))
    base = 8 * nonces.range("base", 4, 32)
    theirs = {"acknowledge": "acknowledge"}
    shared = nonces.choice("shared", (3, 5, 6, 7, 9, 10, 11, 12))
    script = [[0, [["want", shared, 3]]], [1, [["want", shared, 1]]]]
    both = 1 << one | 1 << other
    return [
        chip_case(f"line {one} of the chip with base {base:#x}", [(one,)], acknowledge, irr=1 << one, base=base,
                  lines=1 << one),
        chip_case(f"lines {one} and {other} requested, and {one} taken", [(one,)], acknowledge, irr=both, base=base,
                  isr=1 << 7 & ~both),
        chip_case("line 0", [(0,)], acknowledge, irr=1, base=base, lines=1),
        chip_case(f"edge-triggered line {one} beside level-triggered line {other}", [(one,)], acknowledge, irr=both,
                  base=base, elcr=1 << other, lines=both),
        chip_case(f"level-triggered line {one}, which stays up", [(one,)], acknowledge, irr=1 << one, base=base,
                  elcr=1 << one, lines=1 << one),
        bench("irq-nest", chips(nonces, name="nest"), nest_script(nonces, True), "handlers that may be interrupted",
              theirs),
        bench("irq-shared", chips(nonces) | {"address": shared}, script, f"two devices on line {shared}", theirs),
    ]  # fmt: skip


def glitches(nonces: Nonces) -> list[list[Any]]:
    one, other = pick(nonces, "glitch", 2, (3, 4, 5, 6))
    real = nonces.choice("real", (0, 1))
    return [
        [0, [["glitch", one]]], [1, pulse(7)], [2, [["glitch", other]]], [3, pulse(real, 7)],
        [4, [["glitch", one], *pulse(real)]],
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


def end_of_interrupt(chip: PicChip, command: int) -> None:
    chip.write(0, command)


def the_usual_end(nonces: Nonces) -> list[Case]:
    low, middle, high = sorted(pick(nonces, "three", 3, range(8)))
    theirs = {"end_of_interrupt": "end_of_interrupt"}
    script = nest_script(nonces, True)
    return [
        chip_case(f"line {middle} in service", [(0x20,)], end_of_interrupt, isr=1 << middle),
        chip_case(f"lines {low} and {high} in service", [(0x20,), (0x20,)], end_of_interrupt, isr=1 << low | 1 << high),
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
        chip_case("commands without the EOI bit", [(0x40 | low,), (0x00,), (0x80,)], end_of_interrupt, isr=three),
        chip_case(f"line {high} in service, and the specific command for line 0", [(0x60,)], end_of_interrupt,
                  isr=1 << max(high, 1)),
        chip_case(f"the end and a rotation, with line {high} in service", [(0xA0,)], end_of_interrupt, isr=1 << high),
        chip_case(f"the end of line {middle} and a rotation", [(0xE0 | middle,)], end_of_interrupt, isr=three),
        bench("irq-nest", chips(nonces, command=SPECIFIC), nest_script(nonces, True),
              "a guest that names the line which ends", theirs),
    ]  # fmt: skip


def write(chip: PicChip, port: int, value: int) -> None:
    chip.write(port, value)


def written(nonces: Nonces) -> list[Case]:
    base = 8 * nonces.range("base", 4, 32)
    mask, later = nonces.range("mask", 1, 255), nonces.range("later", 1, 255)
    low, high = sorted(pick(nonces, "two", 2, range(8)))
    begin = [(0, 0x11), (1, base | nonces.range("low bits", 1, 8)), (1, 4), (1, 1)]
    theirs = {"write": "write"}
    lines = [pick(nonces, f"step {step}", 4) for step in range(2)]
    masks = mask_of(pick(nonces, "masked", 5, (0, 1, 3, 5, 6, 9, 11, 12, 15)))
    return [
        chip_case("the four words of the initialization, then a mask", [*begin, (1, mask)], write),
        chip_case("a mask, and another mask", [(1, mask), (1, later)], write, base=base),
        chip_case("a second initialization", [*begin, (1, mask)], write, base=0x20, imr=0xFF, irr=1 << low,
                  read_isr=True),
        chip_case("an ICW1 with other low bits, and requests by edge and by level", [(0, 0x19)], write, base=base,
                  imr=mask, irr=1 << low | 1 << high, elcr=1 << high),
        chip_case("an initialization that begins anew in its middle", [*begin[:2], *begin, (1, mask)], write),
        chip_case("OCW3, which chooses what is read", [(0, 0x0B), (0, 0x08), (0, 0x0A), (0, 0x09), (0, 0x2B)], write),
        chip_case("OCW2, the end of an interrupt", [(0, 0x20), (0, 0x60 | high)], write, isr=1 << low | 1 << high),
        bench("irq-log", chips(nonces, masks), [[step, pulse(*each)] for step, each in enumerate(lines)],
              "a guest that sets vectors and masks", theirs),
        bench("irq-spurious", chips(nonces, name="reads"), glitches(nonces), "a guest that reads what is in service",
              theirs),
    ]  # fmt: skip


# ---- both chips ----


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
        bench("irq-log", chips(nonces), script, "lines of both chips", theirs),
    ]


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


# ---- 06.10 offer ----


def rounds(nonces: Nonces, guest: str, count: int, label: str) -> Case:
    lines = [pick(nonces, f"{guest} round {number}", 1)[0] for number in range(count)]
    script = [[number, pulse(line)] for number, line in enumerate(lines)]
    return bench(guest, chips(nonces, name=guest), script, label, {})


def offered(label: str, state: tuple[int, int, int]) -> Case:
    """One call by hand: (ready, IF, requests), and (calls of inta, KVM_INTERRUPTs, window) that it leads to. Behind an
    interrupt that was handed over the window may wait for the next exit: no chip lets another through before."""
    ready, _, waiting = state
    given = int(ready and waiting > 0)
    return Case(
        {"hand": list(state)}, (given, given, None if waiting > given > 0 else int(waiting > 0 and not given)), label
    )


def when_it_may(nonces: Nonces) -> list[Case]:
    return [
        rounds(nonces, "irq-window", nonces.range("rounds", 4, 7), "a guest that keeps interrupts off for a while"),
        rounds(nonces, "sti-hlt", nonces.range("naps", 3, 5), "a guest that sleeps by STI and HLT"),
        offered("a guest right behind its STI: IF is 1, and it is not ready yet", (0, 1, 1)),
    ]


def one_by_one(nonces: Nonces) -> list[Case]:
    lines = [pick(nonces, f"step {step}", 5) for step in range(3)]
    script = [[step, pulse(*numbers)] for step, numbers in enumerate(lines)]
    nest = chips(nonces, name="nest")
    return [
        bench("irq-log", chips(nonces), script, "five lines at once", {}),
        bench("irq-nest", nest, nest_script(nonces, True), "handlers that may be interrupted", {}),
        offered("a guest that is ready, and nothing that waits", (1, 1, 0)),
        offered("a guest that is ready, and one interrupt that waits", (1, 1, 1)),
        offered("a guest that is ready, and several interrupts that wait", (1, 1, nonces.range("several", 2, 5))),
    ]


# ---- 06.13 strike ----


def struck(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(2):
        line = pick(nonces, f"twice{run}", 1)[0]
        numbers = [pick(nonces, f"a{run}", 3), [line], [line], pick(nonces, f"b{run}", 2)]
        strikes = [[step, each] for step, each in enumerate(numbers)]
        parameters = chips(nonces, name=str(run)) | {"count": 4}
        script = [[step, pulse(*each)] for step, each in enumerate(numbers)]
        console = expected_console("irq-log", parameters, script=script)
        inputs = {"guest": "irq-log", "parameters": parameters, "strikes": strikes}
        cases.append(Case(inputs, {"console": console}, f"line {line} struck twice"))
    return cases


# ---- 06.11 work, 06.12 read_keyboard ----

OTHER_KEYS = (0x02, 0x10, 0x30, 0x39)


def bursts(nonces: Nonces, name: str, sizes: Sequence[int], escape: bool) -> list[bytes]:
    """Scan codes, with releases between and other keys among them."""
    typed = []
    for number, size in enumerate(sizes):
        codes = bytearray()
        for place in range(size):
            key = nonces.choice(f"{name} key {number} {place}", (*models.MOVES, *models.MOVES, *OTHER_KEYS))
            codes += bytes([key, key | 0x80])
        typed.append(bytes(codes))
    if escape:
        typed[-1] += bytes([models.ESCAPE])
    return typed


def etching(nonces: Nonces, name: str, sizes: Sequence[int], label: str, escape: bool = True) -> Case:
    parameters = chips(nonces, 0xFFF9, name=name)
    typed = bursts(nonces, name, sizes, escape)
    console, places = models.etching(parameters["nonce"], b"".join(typed))
    screen = bytearray(80 * 25)
    for place, letter in places.items():
        screen[place] = letter
    answers = ["asleep"] * len(typed) + ["halted" if escape else "asleep"]
    expected = {"console": console, "screen": bytes(screen), "answers": answers}
    inputs = {"guest": "etch", "parameters": parameters, "script": [], "bursts": typed}
    return Case(inputs, expected, label)


def by_hand(label: str, waiting: bytes, ports: Sequence[int]) -> Case:
    """Single reads of the keyboard's ports, and what they give: (port, answer, bytes left)."""
    left, expected = bytearray(waiting), []
    for port in ports:
        answer = int(bool(left)) if port == 0x64 else left.pop(0) if left else 0
        expected.append((port, answer, len(left)))
    return Case({"waiting": waiting, "ports": list(ports)}, expected, label)


def keys(nonces: Nonces) -> list[Case]:
    code = nonces.choice("code", tuple(models.MOVES))
    return [
        by_hand("a keyboard with two bytes", bytes([code, code | 0x80]), (0x64, 0x60, 0x64, 0x60, 0x64)),
        by_hand("a keyboard with nothing to say", b"", (0x64, 0x60)),
        etching(nonces, "slow", [1, 1, 2], "keys one by one"),
        etching(nonces, "fast", [nonces.range("fast", 6, 12), 3], "many keys at once"),
    ]


def the_loop(nonces: Nonces) -> list[Case]:
    died = Case(
        {"guest": "gate-caller", "parameters": {"nonce": nonces.u64("dead"), "address": 0x20000}, "script": [],
         "bursts": []},
        {"raises": True},
        "a guest that dies of a triple fault",
    )  # fmt: skip
    window = rounds(nonces, "irq-window", 3, "a guest that keeps interrupts off for a while")
    window.inputs["bursts"], window.expected["answers"] = [], ["halted"]
    return [
        etching(nonces, "keys", [1, 3, 2], "keys in three bursts"),
        window,
        etching(nonces, "open", [2, 1], "a guest that goes on sleeping", escape=False),
        died,
    ]


def all_of_it(nonces: Nonces) -> list[Case]:
    """One scan code at a time: no request ever waits for the window, which may open sooner or later."""
    case = etching(nonces, "all", [nonces.range("size", 8, 14)], "keys one by one")
    (typed,) = case.inputs["bursts"]
    case.inputs["bursts"] = [bytes([code]) for code in typed]
    case.expected["answers"] = ["asleep"] * len(typed) + ["halted"]
    return [case]


# ---- the stretch problems ----


def in_turn(nonces: Nonces) -> list[Case]:
    theirs = {"request": "fair_request"}
    first, second, third = sorted(pick(nonces, "three", 3, range(8)))
    three = 1 << first | 1 << second | 1 << third
    greedy, meek = sorted(pick(nonces, "guest's", 2, (0, 1, 3, 4, 5, 6, 7)))
    script = [[0, pulse(greedy, meek)], [1, pulse(meek, greedy)], [2, pulse(*pick(nonces, "many", 5, range(8, 16)))]]
    tops = [(second + 1) % 8, third, first]
    named = f"lines {first}, {second} and {third} requested"
    return [
        *(chip_case(f"{named}, and line {top} on top", [()], request, irr=three, top=top) for top in tops),
        chip_case(f"{named}, {second} on top and {third} in service", [()], request, irr=three, top=second,
                  isr=1 << third),
        chip_case(f"lines {first} and {third} requested, {second} on top and in service", [()], request,
                  irr=three & ~(1 << second), top=second, isr=1 << second),
        chip_case(f"{named}, {second} on top and masked", [()], request, irr=three, top=second, imr=1 << second),
        bench("irq-log", chips(nonces, command=ROTATING), script, "a guest that rotates priorities", theirs),
    ]  # fmt: skip


def read_back(nonces: Nonces) -> list[Case]:
    line, mine = nonces.choice("line", (9, 10, 12, 14)), nonces.choice("mine", (4, 5, 6))
    masks = 1 << 7 | 1 << 13
    parameters = chips(nonces, masks) | {"count": 1}
    strikes = [[0, [line]], [0x80 + line, [mine, 7, 15, 13]]]
    bases = parameters["value"] & 0xFF, parameters["value"] >> 8
    wanted = [
        {"irr": 1 << mine | 1 << 7, "imr": masks & 0xFF, "isr": 4, "base": bases[0]},
        {"irr": 1 << 7 | 1 << 5, "imr": masks >> 8, "isr": 1 << line - 8, "base": bases[1]},
    ]
    inputs = {"guest": "irq-nest", "parameters": parameters, "strikes": strikes}
    return [Case(inputs, wanted, f"line {line} in service and others requested")]


def exits(nonces: Nonces) -> Case:
    """Exits without a guest: IF at each, and (count, NMIs so far) after it."""
    patience = nonces.range("patience", 3, 7)
    flags = [*[0] * (patience - 1), 1, *[0] * patience, 1, *[0] * patience, 1, 0, 1]
    count, bites, wanted = 0, 0, []
    for flag in flags:
        count = 0 if flag else count + 1
        if count == patience:
            count, bites = 0, bites + 1
        # After an NMI some begin again at 0 and some go on, and both are well: the next exit shows interrupts on.
        wanted.append((None if not flag and not count else count, bites))
    return Case({"flags": flags, "patience": patience}, wanted, f"a patience of {patience} exits, one after the other")


def guarded(nonces: Nonces) -> list[Case]:
    cases = [exits(nonces)]
    for run in range(2):
        ticks = nonces.range(f"ticks{run}", 4, 9)
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "value": ticks, "count": nonces.range(f"count{run}", 2, 5)}
        # The guest's own ticks with interrupts off stay below; one more comes with the switch back on at the latest.
        patience = ticks + nonces.range(f"patience{run}", 4, 20)
        inputs = {"guest": "nmi-watchdog", "parameters": parameters, "patience": patience}
        console = expected_console("nmi-watchdog", parameters)
        cases.append(Case(inputs, {"console": console}, f"a patience of {patience} exits"))
    return cases
