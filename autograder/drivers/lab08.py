"""Drivers of lab 08: the student's parts of a PC, called by hand and under guests. Sandbox side: no answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from autograder.drivers.base import Student, attempt, recording
from minivmm.exits import Halted
from minivmm.lab_console import EPOCH, Board, Clock, Controller, EndlessError, OddError, Parts, Pc, Serial
from minivmm.lab_console.parts import PARTS

__all__ = ["by_hand_or_guest", "called", "guest_on_the_board", "judged_page", "lived", "of_a_line", "wired"]

Observed = dict[str, Any]

CONSOLE, EXITS = 8192, 12  # bytes, and the last exits, that go back
THINGS: dict[str, Callable[..., Any]] = {"chip": Serial, "clock": Clock, "keyboard": Controller}


def alone(function: Any, **more: Callable[..., Any]) -> Any:
    """The student's function, whose other parts are the library's from now on: a mistake there is told elsewhere."""
    names = getattr(function, "__globals__", None)
    if isinstance(names, dict):
        parts = Parts()
        ours = {name: getattr(parts, name) for name in PARTS} | more
        names.update({name: ours[name] for name in ours if names.get(name) is not function})
    return function


def called(student: Student, inputs: Observed) -> Observed:
    """Calls the student's function with each list of `calls`, on a chip, clock or keyboard controller in the given
    state if there is one. All registers come after each call."""
    function = alone(student.target)
    thing = next((make(**inputs[kind]) for kind, make in THINGS.items() if kind in inputs), None)
    values, states = [], []
    for arguments in inputs["calls"]:
        if "moment" in inputs:
            arguments = [arguments[0], EPOCH + timedelta(microseconds=arguments[1]), *arguments[2:]]
        value = function(*([] if thing is None else [thing]), *arguments)
        if inputs.get("truth"):
            value = bool(value)  # what is true or false may be any number
        values.append(list(value) if isinstance(value, tuple) else value)
        states.append(registers(thing))
    return {"values": values, "states": states}


def of_a_line(student: Student, inputs: Observed) -> Observed:
    """Calls the student's function with a divisor and LCR: those in `calls`, or as a guest has left its UART."""
    if "guest" not in inputs:
        return called(student, inputs)
    with recording() as backend:
        board = a_board(inputs, {}, backend)
        board.go()
    return called(student, {"calls": [[board.uart.divisor, board.uart.lcr]]})


def registers(thing: Any) -> Observed:
    """The state of a device, for the judge."""
    if thing is None:
        return {}
    held = {field.name: getattr(thing, field.name) for field in fields(thing)}
    return {name: plain(value) for name, value in held.items()}


def plain(value: Any) -> Any:
    """A copy, for the device goes on."""
    if isinstance(value, list):
        return list(value)
    return bytes(value) if isinstance(value, bytearray) else value


def by_name(register: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """A UART that is nothing but a store: each register keeps what was last written to its name."""
    held: dict[str, int] = {}

    def name(offset: int, writing: bool) -> str:
        answer = register(offset, bool(held.get("LCR", 0) & 0x80), writing)
        if not isinstance(answer, str):
            raise OddError(f"`register` gave {answer!r} where a name is expected")
        return answer

    return {
        "read_uart": lambda chip, offset: held.get(name(offset, False), 0),
        "write_uart": lambda chip, offset, value: held.update({name(offset, True): value}),
    }


def a_board(inputs: Observed, theirs: dict[str, Any], backend: Any) -> Board:
    more = {name: inputs[name] for name in ("script", "memory", "now", "cost") if name in inputs}
    return Board(theirs, inputs["guest"], backend=backend, **more, **inputs["parameters"])


def the_end(board: Board, asked: str | None) -> str:
    """What became of the guest, in a word."""
    if asked is not None:
        return asked
    if not isinstance(board.exits[-1], Halted):
        return "died"
    return "asleep" if board.page.if_flag else "halted"


def report(board: Board, **more: Any) -> Observed:
    seen = [str(exit) for exit in board.exits][-EXITS:]
    return {"console": bytes(board.printed[:CONSOLE]), "screen": board.screen[:CONSOLE], "exits": seen, **more}


def by_hand_or_guest(student: Student, inputs: Observed) -> Observed:
    """For checks that have cases of both kinds."""
    return guest_on_the_board(student, inputs) if "guest" in inputs else called(student, inputs)


def guest_on_the_board(student: Student, inputs: Observed) -> Observed:
    """A guest in a PC that has the student's part, or those of the names in `theirs`, all as the student wrote them.

    `in_place_of` names the part that it stands for, where that has another name. `typed` are lines that are typed, one
    after the other, each when the guest sleeps. A reset boots again.
    """
    if "theirs" in inputs:
        theirs = {name: student.get(name) for name in inputs["theirs"]}
    elif student.exercise == "register":
        theirs = by_name(student.target)
    else:
        theirs = {inputs.get("in_place_of", student.exercise): alone(student.target)}
    with recording() as backend:
        board = a_board(inputs, theirs, backend)
        typed = list(inputs.get("typed", ()))
        ends: list[str] = []
        try:
            for _ in range(2 + len(typed)):
                end = the_end(board, board.go())
                ends.append(end)
                if end == "reset" and "typed" in inputs:
                    board.boot()
                elif end == "asleep" and typed:
                    board.type(typed.pop(0))
                else:
                    break
        except EndlessError as error:
            return report(board, stop="endless", why=str(error), ends=ends)
        except OddError as error:
            return report(board, stop="odd", why=str(error), ends=ends)
        return report(board, stop=ends[-1], why=str(board.exits[-1]), ends=ends)


def wired(student: Student, inputs: Observed) -> Observed:
    """The student's `access` to a PC whose devices are ours: by a guest, or by hand, [port, size] or [port, size,
    value]."""
    if "guest" in inputs:
        return guest_on_the_board(student, inputs)
    access, pc = alone(student.target), Pc(rtc=Clock(inputs["now"]))
    values = []
    for arguments in inputs["calls"]:
        if arguments[0] == "receive":
            pc.uart.fifo.append(arguments[1])
        else:
            values.append(access(pc, *arguments))
    return {"values": values, "states": [{**registers(pc.uart), "index": pc.rtc.index, "config": pc.keyboard.config}]}


def judged_page(student: Student, inputs: Observed) -> Observed:
    """The student's verdict on a guest that has really come to that end; `page` makes up an exit where there is one."""
    if "page" in inputs:
        return attempt(student.target, SimpleNamespace(**inputs["page"]), inputs["asked"])
    with recording() as backend:
        board = a_board(inputs, {}, backend)
        asked = board.go()
        return {**attempt(student.target, board.page, asked), "exits": [str(exit) for exit in board.exits][-EXITS:]}


class Counted:
    """A board that tells how often it was started, and gives no more than `most` runs."""

    def __init__(self, board: Board, most: int) -> None:
        self._board, self._most = board, most
        self.runs = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._board, name)

    def go(self) -> str | None:
        self.runs += 1
        if self.runs > self._most:
            raise EndlessError
        return self._board.go()


def lived(student: Student, inputs: Observed) -> Observed:
    """The student's `live` with a machine that resets a few times; its verdicts are ours."""
    with recording() as backend:
        board = a_board(inputs, {}, backend)
        board.uart.lcr = inputs["lcr"]  # as a guest of an earlier life has left it
        counted, stale = Counted(board, inputs["most"]), False

        def verdict(page: Any, asked: str | None) -> str:
            nonlocal stale
            stale = stale or page is not board.page
            return the_end(board, asked)

        live = alone(student.target, verdict=verdict)
        try:
            value, stop = live(counted, *inputs["arguments"]), "returned"
        except EndlessError:
            value, stop = None, "endless"
        more = {"stop": stop, "value": value, "runs": counted.runs, "boots": board.boots, "stale": stale}
        return report(board, **more, dlab=board.uart.dlab)
