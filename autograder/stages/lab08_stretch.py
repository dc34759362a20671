"""Lab 08, stretch problems: checked like the others, and worth no points."""

from __future__ import annotations

from typing import Any

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.lab08_common import BY_LSR, answered, both, guest, hints
from autograder.stages.lab08_models import settings
from autograder.stages.models import Stream
from minivmm.devices.rtc_chain import TICKS, period
from minivmm.lab_console import Serial

# ---- 08.18 timeout_us ----


def character(lcr: int) -> float:
    """The bits of a character, start and stop bits with it."""
    data = 5 + (lcr & 3)
    stop = 1 if not lcr & 4 else 1.5 if data == 5 else 2
    return 1 + data + (lcr >> 3 & 1) + stop


def time_outs(nonces: Nonces) -> list[Case]:
    divisor = nonces.range("divisor", 6, 2000)
    formats = [(3, "time"), (0, "data"), (0x0B, "parity"), (0x13, "parity"), (7, "stop"), (4, "half"), (0x1F, "stop")]
    asked = [(1, 3, "time"), *((divisor, lcr, hint) for lcr, hint in formats)]
    cases = [
        Case({"calls": [[d, lcr]]}, (time_out(d, lcr), hint), f"divisor {d}, LCR {lcr:#04x}") for d, lcr, hint in asked
    ]
    parameters = {"nonce": nonces.u64("guest"), "count": nonces.range("count", 2, 6)}
    d, lcr, _, _ = settings(Stream(parameters["nonce"]), parameters["count"])[-1]
    label = f"the guest baud-setter, which leaves divisor {d}, LCR {lcr:#04x}"
    inputs = {"guest": "baud-setter", "parameters": parameters}
    return [*cases, Case(inputs, (time_out(d, lcr), "data"), label)]


def time_out(divisor: int, lcr: int) -> float:
    return 4 * character(lcr) * 16 * divisor / 1.8432


def timed(case: Case, obs: Observation) -> Finding:
    wanted, hint = case.expected
    actual = (obs.list("values") or [None])[0]
    if actual is None:
        return fail(f"it gave None where about {wanted:.0f} is expected", "none")
    if type(actual) not in (int, float):
        return fail(f"it gave {describe(actual)} where a number of µs is expected", "time")
    if abs(actual - wanted) <= 1.5:
        return OK
    if abs(actual * 4 - wanted) <= 6:
        hint = "four"
    elif hint == "time" and abs(actual - wanted * (1 - 1 / character(3))) <= 1.5:  # those cases are 8N1
        hint = "start"
    return fail(f"it gave {actual:.6g} µs where about {wanted:.0f} µs is expected", hint)


# ---- 08.19 full_status ----


def full_status(state: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """LSR of a chip whose FIFO has the flaws of each byte above it, and the chip afterwards."""
    fifo, errors = list(state.get("fifo", [])), state.get("errors", 0)
    status = 0x60 | errors | bool(fifo) | (fifo[0] >> 8 if fifo else 0)
    if state.get("fcr", 0) & 1 and any(entry >> 8 for entry in fifo):
        status |= 0x80
    return status, {"fifo": [fifo[0] & 0xFF, *fifo[1:]] if fifo else [], "errors": 0}


def told(chip: Serial) -> int:
    """The same, on a chip."""
    status, after = full_status({"fcr": chip.fcr, "fifo": chip.fifo, "errors": chip.errors})
    chip.fifo, chip.errors = after["fifo"], after["errors"]
    return status


def flawed(nonces: Nonces) -> list[Case]:
    one, two, three = (nonces.range(name, 0, 256) for name in ("one", "two", "three"))
    flaw, other = nonces.choice("flaw", (0x04, 0x08)), 0x10
    states: list[tuple[str, dict[str, Any]]] = [
        ("plain", {"fcr": 1, "fifo": [one, two]}),
        ("top", {"fcr": 0, "fifo": [one | flaw << 8]}),
        ("bit7", {"fcr": 1, "fifo": [one | other << 8, two]}),
        ("not-yet", {"fcr": 1, "fifo": [one, two | flaw << 8, three]}),
        ("overrun", {"fcr": 1, "fifo": [one], "errors": 0x02}),
        ("overrun", {"fcr": 1, "fifo": [one, two, three | other << 8], "errors": 0x02}),
        ("plain", {"fcr": 1}),
    ]
    cases = []
    for hint, state in states:
        first, after = full_status(state)
        second, last = full_status({**state, **after})
        mistakes = {"once": first} if hint == "overrun" else {"once": first, "bit7": first ^ 0x80}
        expected = {"values": [first, second], "states": [after, last], "hint": hint, "mistakes": mistakes,
                    "fields": {"fifo": "once", "errors": "once"}}  # fmt: skip
        text = " ".join(f"{entry:#05x}" for entry in state.get("fifo", [])) or "nothing"
        text = f"{text} received, FIFOs {'on' if state['fcr'] else 'off'}{', an overrun' if 'errors' in state else ''}"
        cases.append(Case({"chip": state, "calls": [[], []]}, expected, text))
    entries = [byte | nonces.choice(f"flaw {n}", (0, 0, 0x04, 0x08, 0x10)) << 8
               for n, byte in enumerate(nonces.bytes("entries", 12))]  # fmt: skip
    script = [[0, []], [1, [["flawed", [0x41, 0x42 | flaw << 8, *entries]]]], [2, [["flawed", [one | other << 8]]]]]
    parameters = {"nonce": nonces.u64("guest"), "count": 3, "option": 1}
    more = {"script": script, "in_place_of": "line_status"}
    return [*cases, guest("rx-reader", parameters, "guest", script=script, line_status=told, more=more)]


# ---- 08.20 periodic ----


def ticking(nonces: Nonces) -> list[Case]:
    def case(a: int, before: int, now: int, hint: str) -> Case:
        every = period(a & 15)
        right = (now * TICKS // 10**6) // every - (before * TICKS // 10**6) // every if every else 0
        expected = {"values": [right], "states": [], "hint": hint, "mistakes": {}}
        return Case({"calls": [[a, before, now]]}, expected, f"A = {a:#04x}, from {before} µs to {now} µs")

    start = nonces.range("start", 0, 10**9) * 7
    cases = [case(0x26, 0, 10**6, "rate"), case(0x2F, 0, 10**6, "rate"), case(0x23, 0, 10**6, "rate")]
    cases += [case(0x20, 0, 10**6, "none"), case(0x22, 0, 10**6, "odd"), case(0x21, 0, 10**6, "odd")]
    for rate in (6, 10, 15):
        cases.append(case(0x20 | rate, start, start + nonces.range(f"span{rate}", 10**6, 10**7), "grid"))
    cases += [case(0x2F, 499_900, 500_100, "grid"), case(0x2F, 510_000, 990_000, "grid")]
    cases += [case(0x2F, 499_999, 500_000, "edge"), case(0x2F, 500_000, 500_001, "edge")]
    # With rate 3 the interrupts are 15625/128 µs apart, and 57 * 15625 is 1 more than a multiple of 128: so the next
    # comes 1/128 µs after `late`. A float that counts the ticks since 1970 can't tell that from `late` itself.
    late = ((57 + 128 * nonces.range("late", 10**11, 2 * 10**11)) * 15_625 - 1) // 128
    return [*cases, case(0x23, late - 1000, late, "whole")]


def ticked(case: Case, obs: Observation) -> Finding:
    """Interrupts are counted in decimal."""
    if (finding := answered(case, obs)).ok:
        return OK
    actual, wanted = (obs.list("values") or [None])[0], case.expected["values"][0]
    said = actual if type(actual) is int and actual.bit_length() < 80 else describe(actual)
    return fail(f"it gave {said} where {wanted} is expected", finding.hint)


# ---- 08.21 modem_deltas ----


def deltas(before: int, after: int) -> int:
    changed = (before ^ after) & 0xB0
    return (changed | before & ~after & 0x40) >> 4


def edges(nonces: Nonces) -> list[Case]:
    def case(before: int, after: int, hint: str) -> Case:
        expected = {"values": [deltas(before, after)], "states": [], "hint": hint, "mistakes": {}}
        return Case({"calls": [[before, after]]}, expected, f"MSR from {before:#04x} to {after:#04x}")

    low = nonces.range("low", 1, 16)
    cases = [case(0xB0, 0xB0, "changed")]
    cases += [case(0xB0 ^ bit, 0xB0, "changed") for bit in (0x10, 0x20, 0x80)]
    cases += [case(0xB0, 0xB0 ^ bit, "both-ways") for bit in (0x10, 0x20, 0x80)]
    return [
        *cases,
        case(0x30, 0x70, "ring"),
        case(0x70, 0x30, "ring"),
        case(0x40, 0x90, "ring"),
        case(0xB0 | low, 0xB0, "low"),
        guest("iir-logger", {"nonce": nonces.u64("guest"), "count": 1, "value": 0x08,
                             "option": nonces.choice("mcr", (0x11, 0x12, 0x14, 0x1C, 0x1B)) << 8 | 1}, "guest"),
    ]  # fmt: skip


CHECKS = (
    Check(
        "08.18", "stretch: how long four characters take", 0,
        exercise="timeout_us", driver="of_a_line", cases=time_outs, judge=timed, guests=("baud-setter",),
        hints=hints(
            Hint("time", "A bit takes 16 * divisor / 1.8432 µs: the clock of 1.8432 MHz, divided by 16 and by the "
                 "divisor."),
            Hint("four", "Four characters, not one."),
            Hint("start", "Each character has a start bit, and a stop bit."),
            Hint("data", "Bits 0 and 1 of LCR are the number of data bits less five."),
            Hint("parity", "Bit 3 of LCR adds a parity bit, whatever bits 4 and 5 say; without it there is none."),
            Hint("stop", "One stop bit, or two with bit 2 of LCR."),
            Hint("half", "With five data bits, bit 2 of LCR means one and a half stop bits."),
        ),
    ),
    Check(
        "08.19", "stretch: errors wait with their byte", 0,
        exercise="full_status", driver="by_hand_or_guest", cases=flawed, judge=both, guests=("rx-reader",),
        hints=hints(
            Hint("plain", "Without any error it is as in task 08.3: THRE, TEMT, DR."),
            Hint("top", "The flaws of the *first* byte, `chip.fifo[0] >> 8`, are LSR bits with their places already."),
            Hint("bit7", "Bit 7 of LSR is 1 while the FIFOs are on and a parity, framing or break error is somewhere "
                 "in them. With the FIFOs off it is always 0."),
            Hint("not-yet", "The flaws of a byte that is not the first are not shown yet: only bit 7 warns of them."),
            Hint("overrun", "An overrun belongs to no byte. It is told at once, and bit 7 is not about it."),
            Hint("once", "What was told is forgotten: the flaws of the first byte, and `chip.errors`. The byte itself "
                 "stays, and so do the flaws of those behind it."),
            BY_LSR,
        ),
    ),
    Check(
        "08.20", "stretch: ticks of the real-time clock", 0,
        exercise="periodic", driver="called", cases=ticking, judge=ticked,
        hints=hints(
            Hint("rate", "With n in the low four bits of A the interrupt comes every 2 ** (n - 1) ticks of 32768 Hz: 6 "
                 "is 1024 times a second, 15 twice."),
            Hint("none", "A rate of 0 means that none comes: 0. (And whoever returns nothing gives None.)",
                 when="ZeroDivision|NoneType|negative shift"),
            Hint("odd", "Rates 1 and 2 are exceptions: they are those of 8 and 9, 256 and 128 times a second."),
            Hint("grid", "The ticks lie on a grid that does not begin at `before`: count those up to `now`, and "
                 "subtract those up to `before`. The classic mistake divides the distance."),
            Hint("edge", "An interrupt at `now` itself has come; one at `before` itself came earlier."),
            Hint("whole", "Stay with whole numbers, `//` and no `/`: a float has 53 bits, and that is too few for the "
                 "ticks since 1970."),
        ),
    ),
    Check(
        "08.21", "stretch: what has changed at the modem", 0,
        exercise="modem_deltas", driver="by_hand_or_guest", cases=edges, judge=both, guests=("iir-logger",),
        hints=hints(
            Hint("changed", "CTS (bit 4), DSR (5) and DCD (7) have their deltas in bits 0, 1 and 3: 1 where the line "
                 "has changed."),
            Hint("both-ways", "A line that falls has changed as well as one that rises."),
            Hint("ring", "Of RI, bit 6, only the end of a ring counts, the fall: bit 2, TERI."),
            Hint("low", "Bits 0 to 3 of what is given are old deltas and no lines."),
            Hint("guest", "Under a driver it differs: MCR goes into loopback, and the four lines with it. 00 is IIR "
                 "for the modem, and behind it comes MSR."),
        ),
    ),
)  # fmt: skip
