"""What is special about lab 08: its guests on every backend, its parts against the library's, strange answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograder.drivers import lab08 as drivers
from autograder.drivers.base import Student
from autograder.registry import installed
from autograder.stages import lab08_models, lab08_stretch
from autograder.stages.models import expected_console
from minivmm import guests, resources
from minivmm.kvm import calls
from minivmm.lab_console import START, Board, Clock, Controller, EndlessError, OddError, Parts, Serial, interact
from minivmm.lab_console.parts import PARTS

LAB = installed().lab("08")


# ---- the guests, against their models ----


def test_the_lab_has_its_guests():
    used = {name for check in LAB.checks for name in check.guests}
    assert used == {name for name in guests.names() if "08" in guests.load(name).labs}
    assert len(used) == 10


@pytest.fixture
def on_backend(backend: Any) -> Iterator[Any]:
    previous = calls.use(backend)
    yield backend
    calls.use(previous)


def run(name: str, **how: Any) -> tuple[str, Board]:
    board = Board({}, name, **how)
    return drivers.the_end(board, board.go()), board


def model(name: str, parameters: dict[str, int], **host: Any) -> str:
    return expected_console(name, parameters, **host).decode()


SCRIPT = [(0, [("feed", b"first")]), (1, [("errors", 2), ("deltas", 5), ("feed", bytes(range(48, 70)))]), (3, [])]
TIMES = [(0, [("time", START + 999_990)]), (1, [("time", START + 998_000)]), (2, [("time", START)])]
RUNS: list[tuple[str, dict[str, int], dict[str, Any]]] = [
    ("baud-setter", {}, {}),
    ("baud-setter", {"count": 0}, {}),
    ("lsr-waiter", {"count": 7, "value": 1}, {}),
    ("rx-reader", {"count": 4, "option": 0x80_03_41_01}, {"script": SCRIPT}),
    ("rx-reader", {"count": 2, "option": 0}, {"script": SCRIPT}),
    ("iir-logger", {"count": 4, "value": 15, "option": 0x8C1}, {"script": SCRIPT}),
    ("iir-logger", {"count": 4, "value": 0, "option": 0}, {"script": SCRIPT}),
    ("thre-sender", {"count": 5}, {}),
    ("thre-sender", {"count": 0, "value": 0x2820}, {}),
    ("uart-detective", {}, {}),
    ("rtc-reader", {"count": 3, "option": 3, "value": 0}, {"script": TIMES}),
    ("rtc-reader", {"count": 3, "option": 0, "value": 6}, {"script": TIMES}),
    ("kbd-tester", {"count": 5, "option": 2}, {}),
]


@pytest.mark.parametrize(("name", "parameters", "host"), RUNS)
@pytest.mark.parametrize("nonce", [0, 0xFEDC_BA98_8000_0001], ids=hex)
def test_a_guest_does_what_its_model_says(on_backend, name, parameters, host, nonce):
    parameters = {**parameters, "nonce": nonce}
    end, board = run(name, **host, **parameters)
    assert (end, board.console) == ("halted", model(name, parameters, **host))


@pytest.mark.parametrize(
    ("way", "end"), list(enumerate(["reset", "off", "reset", "died", "halted", "asleep"])), ids=str
)
def test_the_ways_to_stop(on_backend, way, end):
    parameters = {"nonce": 9, "count": 0, "value": way}
    seen, board = run("power-switch", **parameters)
    assert (seen, board.console) == (end, model("power-switch", parameters))


@pytest.mark.parametrize("option", [0, 1])
def test_the_keyboard_controller_resets(on_backend, option):
    end, board = run("kbd-tester", nonce=9, option=option)
    assert (end, board.console) == ("reset", model("kbd-tester", {"nonce": 9, "option": option}))


def test_a_reset_boots_again_and_the_clock_goes_on(on_backend):
    board = Board({}, "power-switch", nonce=9, count=2)
    while board.go() == "reset":
        board.boot()
    assert board.console == model("power-switch", {"nonce": 9, "count": 2})
    assert (board.boots, board.pc.rtc.cmos[0x40]) == (3, 3)


def test_the_shell_obeys(on_backend):
    lines = "help\recho a word \rtime\rpeek 9002\rhel\r\rtime\rreset\r"
    board = Board({}, "mini-shell", nonce=9, memory=[(0x9000, b"abcdefgh")])
    board.type(lines)
    assert board.go() == "reset"
    board.boot()
    board.type("crash\r")
    assert drivers.the_end(board, board.go()) == "died"
    wanted = model("mini-shell", {"nonce": 9}, typed=f"{lines}crash\r", memory=b"abcdefgh", at=0x9000)
    assert board.screen == wanted


def test_the_shell_takes_back_letters_and_keeps_to_its_line(on_backend):
    board = Board({}, "mini-shell", nonce=9)
    board.type("\b\bechx\bo " + "a" * 80 + "\rhelp me\r")
    board.go()
    _, first, second, third, *_ = board.screen.split("\n")
    assert (first, second) == ("> echx\bo " + "a" * 55, "a" * 55)
    assert third == "> help me"


def test_what_waits_in_a_uart_is_lost_by_a_reset(on_backend):
    board = Board({}, "mini-shell", nonce=9)
    board.type("reset\rlost")
    assert board.go() == "reset"
    board.boot()
    board.type("crash\r")
    assert drivers.the_end(board, board.go()) == "died"


# ---- the board ----


def test_a_sleeping_guest_is_not_woken_by_looking_at_it(on_backend):
    board = Board({"irq": lambda chip: False}, "mini-shell", nonce=9)
    board.go()
    before = board.count
    board.type("help\r")
    assert (board.go(), board.count) == (None, before)


def test_answers_that_no_register_can_hold_are_named():
    for answer in (None, "x", 256, -1, 1.0):
        with pytest.raises(OddError, match="port 0x3fd gave"):
            run("lsr-waiter", nonce=1) if answer is ... else Board(
                {"line_status": lambda chip, answer=answer: answer}, "lsr-waiter", nonce=1
            ).go()
    with pytest.raises(OddError, match="a write gave 7"):
        Board({"power": lambda port, size, value: 7}, "power-switch", nonce=1, count=0).go()


def test_a_guest_without_end_is_ended(monkeypatch):
    monkeypatch.setattr("minivmm.lab_console.board.MOST", 300)
    never_ready = {"line_status": lambda chip: 0}
    with pytest.raises(EndlessError, match="300 exits"):
        Board(never_ready, "lsr-waiter", nonce=1, value=10_000).go()


def test_a_prompt_types_and_ends(monkeypatch, capsys):
    lines = iter(["echo hello", "off"])
    monkeypatch.setattr("builtins.input", lambda: next(lines))
    board = Board({}, "mini-shell", nonce=9)
    interact(board, lambda board: drivers.the_end(board, board.go()))
    assert "hello\n> " in capsys.readouterr().out
    assert board.screen.endswith("> off\n")


def test_where_nobody_can_be_asked_it_says_so(monkeypatch, capsys):
    def nobody() -> str:
        raise NotImplementedError

    monkeypatch.setattr("builtins.input", nobody)
    board = Board({}, "mini-shell", nonce=9)
    interact(board, lambda board: drivers.the_end(board, board.go()))
    assert "use say" in capsys.readouterr().out


# ---- the solution's parts do what the library's do ----


@pytest.fixture(scope="module")
def solution() -> dict[str, Any]:
    source = (resources.folder("solutions") / "lab08.py").read_text(encoding="utf-8")
    cells = [cell for cell in source.split("# %%") if cell.startswith(' exercise="')]
    names: dict[str, Any] = {}
    exec("from minivmm.kvm import *\n" + "\n".join(cell.partition("\n")[2] for cell in cells), names)
    return names


bits = st.integers(0, 255)
registers = st.tuples(st.sampled_from(range(8)), bits)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, 7)),
        st.tuples(st.just("write"), registers),
        st.tuples(st.just("receive"), bits),
    ),
    max_size=60,
)


@given(steps)
def test_a_uart_of_the_solution_is_the_library_s(solution, steps):
    yours, ours, parts = Serial(), Serial(), Parts()
    for step, what in steps:
        match step:
            case "read":
                assert solution["read_uart"](yours, what) & ~low(what) == parts.read_uart(ours, what) & ~low(what)
            case "write":
                solution["write_uart"](yours, *what)
                parts.write_uart(ours, *what)
            case "receive":
                solution["receive"](yours, what)
                parts.receive(ours, what)
        yours.deltas = ours.deltas = 0  # of MCR in loopback: a stretch problem
        ours.thre |= step == "write" and what[0] == 0 and not ours.dlab  # the library knows better than to note it
        assert bool(solution["irq"](yours)) == parts.irq(ours)
        assert asdict(yours) == asdict(ours)


def low(offset: int) -> int:
    return 0x0F if offset == 6 else 0


@given(st.lists(st.tuples(st.sampled_from([0x60, 0x64]), st.sampled_from([0x20, 0x60, 0xAA, 0xD1, 0xFE, 0xDE, 0x65]))))
def test_a_keyboard_controller_of_the_solution_resets_as_the_library_s(solution, writes):
    yours, ours, parts = Controller(), Controller(), Parts()
    for port, value in writes:
        if (port == 0x60 and not ours.expects) or (port == 0x64 and value in (0x65, 0xDE)):
            continue  # for a keyboard, and there is none; commands that the lab leaves out
        assert solution["write_keyboard"](yours, port, value) == parts.write_keyboard(ours, port, value)
        yours.config |= 4  # the self test of the library sets it
        ours.config |= 4
        assert asdict(yours) == asdict(ours)


@given(st.integers(0, 4 * 10**15), st.sampled_from([0, 2, 4, 6]), st.integers(0, 127))
def test_a_clock_of_the_solution_is_the_library_s(solution, now, b, index):
    if 2200 < 10**6 - now % 10**6 < 2250:
        return  # the library counts in ticks of the chip's crystal
    yours, ours = (Clock(now, index=index, b=b, flags=0x30) for _ in range(2))
    assert solution["read_clock"](yours) == Parts().read_clock(ours)
    assert yours.flags == ours.flags


@given(st.sampled_from([0x604, 0x600, 0xCF8, 0xCF9]), st.sampled_from([1, 2, 4]), st.integers(0, 0xFFFF))
def test_switches_of_the_solution_are_the_library_s(solution, port, size, value):
    if (port in (0x600, 0xCF9) and size > 1) or (port == 0x604 and size != 2):
        return  # accesses across registers: the solution knows PM1a as a word, and the chipset as a byte
    assert solution["power"](port, size, value) == Parts().power(port, size, value & (1 << 8 * size) - 1)


@given(st.lists(st.integers(0, 0x1FFF), max_size=16), st.sampled_from([0, 1]), st.sampled_from([0, 2, 0x12]))
def test_flaws_are_told_as_the_model_says(solution, fifo, fcr, errors):
    fifo = [entry & 0x1CFF for entry in fifo]
    chip = Serial(fcr=fcr, fifo=list(fifo), errors=errors)
    wanted, after = lab08_stretch.full_status({"fcr": fcr, "fifo": fifo, "errors": errors})
    assert solution["full_status"](chip) == wanted
    assert (chip.fifo, chip.errors) == (after["fifo"], after["errors"])


def test_a_part_is_tried_among_right_ones(solution):
    """A mistake in one part must not be told by the check of another."""
    broken = {**solution, "identify": lambda chip: 1 / 0, "receive": lambda chip, byte: 1 / 0}
    source = "def read_uart(chip, offset):\n    return identify(chip) if offset == 2 else 0"
    exec(source, broken)
    seen = drivers.called(Student(broken, "read_uart"), {"chip": {}, "calls": [[2]]})
    assert seen["values"] == [1]
    assert set(PARTS) < set(solution)


# ---- other right answers ----

OTHER_ANSWERS = {
    "a dict of registers": (
        '    if writing:\n        names[0], names[2] = "THR", "FCR"\n    if dlab:\n        names[:2] = "DLL", "DLM"\n',
        '    if dlab and offset < 2:\n        return {0: "DLL", 1: "DLM"}[offset]\n'
        '    if writing:\n        return {0: "THR", 2: "FCR"}.get(offset, names[offset])\n',
    ),
    "a list for the format": (
        '    return 115200 // divisor, f"{bits}{parity}{stop}"',
        '    return [1843200 // (16 * divisor), str(bits) + parity + stop]',
    ),
    "a truth among the bits": (
        "    status = 0x60 | chip.errors | bool(chip.fifo)\n    chip.errors = 0",
        "    status = (len(chip.fifo) > 0) + 0x60 + chip.errors\n    chip.errors = 0",
    ),
    "a new list for the FIFO": (
        "    if (value ^ chip.fcr) & 1 or value & 3 == 3:\n        chip.fifo.clear()",
        "    if (value ^ chip.fcr) & 1 or value & 3 == 3:\n        chip.fifo = []",
    ),
    "one long condition": (
        "    return fifos | (0x00 if chip.ier & 8 and chip.deltas else 0x01)\n",
        "    return fifos + (not (chip.ier & 8 and chip.deltas))\n",
    ),
    "slices for pop": (
        "return chip.fifo.pop(0) if chip.fifo else 0",
        "byte, chip.fifo = (chip.fifo or [0])[0], chip.fifo[1:]; return byte",
    ),
    "sent as bytes": ("            chip.sent.append(value)\n", "            chip.sent += bytes([value])\n"),
    "a number for the wire": (
        "    return chip.mcr & 0x18 == 0x08 and not identify(chip) & 1\n",
        "    return chip.mcr & 8 if not chip.mcr & 0x10 and not identify(chip) & 1 else 0\n",
    ),
    "twelve hours by a table": (
        "        value = (value - 1) % 12 + 1\n",
        "        value = value - 12 if value > 12 else value or 12\n",
    ),
    "UIP from the end of the second": (
        "clock.now % 1_000_000 >= 1_000_000 - 2228", "1_000_000 - clock.now % 1_000_000 <= 2228",
    ),
    "a type by its bits": ("value >> 10 & 7 == 5:", "value & 0x1C00 == 0x1400:"),
    "a loop that counts down": (
        "    for _ in range(most):\n        end", "    while most:\n        most -= 1\n        end",
    ),
    "the index read back": (
        "    if value is None:\n        return (1 << 8 * size) - 1\n",
        "    if value is None:\n        return pc.rtc.index if port == 0x70 else 256**size - 1\n",
    ),
    "flaws by division, in a new list": (
        "        status |= chip.fifo[0] >> 8\n        chip.fifo[0] &= 0xFF\n",
        "        flaws, byte = divmod(chip.fifo[0], 256)\n"
        "        status, chip.fifo = status | flaws, [byte, *chip.fifo[1:]]\n",
    ),
    "only what falls needs no mask": ("before & ~after & 0x40) >> 4", "before & ~after) >> 4"),
    "a machine that calls itself": (
        "    for _ in range(most):\n        end = verdict(board.page, board.go())\n        if end != \"reset\":\n"
        "            return end\n        board.boot()\n    return \"boot loop\"\n",
        "    asked = board.go()\n    if (end := verdict(board.page, asked)) != \"reset\":\n        return end\n"
        "    if most == 1:\n        return \"boot loop\"\n    board.boot()\n    return live(board, most - 1)\n",
    ),
    "the page before the wish, where it makes no difference": (
        "    if asked:\n        return asked\n    if page.exit_reason == KVM_EXIT_HLT:\n",
        "    if page.exit_reason == KVM_EXIT_IO and asked is not None:\n        return asked\n"
        "    if page.exit_reason == KVM_EXIT_HLT:\n",
    ),
    "whole microseconds": (
        "    return 4 * bits * 16 * divisor / 1.8432", "    return round(4 * bits * 16 * divisor / 1.8432)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", OTHER_ANSWERS.values(), ids=list(OTHER_ANSWERS))
def test_another_right_answer_has_full_marks(change, marks_lost):
    assert marks_lost("08", change) == []


def test_letters_are_the_stream_s():
    assert lab08_models.letters(7, 12) == run("lsr-waiter", nonce=7)[1].screen
