"""Lab 08, the serial line: the names of the registers, the format of a character, and whether the chip is ready."""

from __future__ import annotations

import re

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.lab08_common import answered, both, calls, guest, hints, name_of, shown
from autograder.stages.lab08_models import letters, settings
from autograder.stages.models import Stream

# ---- 08.1 register ----


def named(nonces: Nonces) -> list[Case]:
    groups = [
        ("names", [(offset, False, False) for offset in range(8)]),
        ("writing", [(offset, False, True) for offset in range(8)]),
        ("dlab", [(offset, True, writing) for offset in (0, 1) for writing in (False, True)]),
        ("only-two", [(offset, True, writing) for offset in range(2, 8) for writing in (False, True)]),
    ]
    cases = []
    for hint, group in groups:
        order = sorted(group, key=lambda each, hint=hint: nonces.u64(f"{hint}{each}"))  # type: ignore[misc]
        for arguments in order:
            offset, dlab, writing = arguments
            text = f"{'a write to' if writing else 'a read of'} offset {offset}, DLAB {int(dlab)}"
            expected = {"values": [name_of(*arguments)], "states": [], "hint": hint, "mistakes": {}}
            cases.append(Case({"calls": [list(arguments)]}, expected, text))
    return [*cases, guest("baud-setter", {"nonce": nonces.u64("guest"), "count": 4}, "dlab")]


# ---- 08.2 line_format ----


def format_of(divisor: int, lcr: int) -> list[object]:
    bits = 5 + (lcr & 3)
    parity = {0: "N", 1: "O", 3: "E", 5: "M", 7: "S"}.get(lcr >> 3 & 7, "N")
    stop = "1" if not lcr & 4 else "1.5" if bits == 5 else "2"
    return [115_200 // divisor, f"{bits}{parity}{stop}"]


def formats(nonces: Nonces) -> list[Case]:
    def case(divisor: int, lcr: int, hint: str, **mistakes: object) -> Case:
        right = format_of(divisor, lcr)
        wrong = {key: value for key, value in mistakes.items() if value != right}
        expected = {"values": [right], "states": [], "hint": hint, "mistakes": wrong}
        return Case({"calls": [[divisor, lcr]]}, expected, f"divisor {divisor}, LCR {lcr:#04x}")

    divisor = nonces.range("divisor", 4, 2000)
    rate = 115_200 // divisor
    cases = [case(divisor, 0x03, "rate"), case(1, 0x03, "rate"), case(12, 0x03, "rate")]
    odd_rate = nonces.choice("down", [each for each in range(50, 2000) if 2 * (115_200 % each) > each])
    cases.append(case(odd_rate, 0x03, "down"))
    for lcr in sorted(range(4), key=lambda bits: nonces.u64(f"bits{bits}")):
        cases.append(case(divisor, lcr, "bits"))
    even, odd = [rate, "8E1"], [rate, "8O1"]
    cases += [case(divisor, 0x0B, "parity", even=even), case(divisor, 0x1B, "parity", even=odd)]
    cases += [case(divisor, 0x13, "off"), case(divisor, 0x33, "off"), case(divisor, 0x23, "off")]
    cases += [case(divisor, 0x2B, "stick"), case(divisor, 0x3B, "stick"), case(divisor, 0x07, "stop")]
    cases += [case(divisor, 0x05, "stop"), case(divisor, 0x04, "half"), case(divisor, 0x43, "others")]
    return [*cases, case(nonces.range("last", 1, 50), nonces.range("lcr", 0, 0x40), "bits"), under_guest(nonces)]


def under_guest(nonces: Nonces) -> Case:
    """The line as a driver leaves it."""
    parameters = {"nonce": nonces.u64("guest"), "count": nonces.range("count", 2, 6)}
    divisor, lcr, _, _ = settings(Stream(parameters["nonce"]), parameters["count"])[-1]
    expected = {"values": [format_of(divisor, lcr)], "states": [], "hint": "bits", "mistakes": {}}
    label = f"the guest baud-setter, which leaves divisor {divisor}, LCR {lcr:#04x}"
    return Case({"guest": "baud-setter", "parameters": parameters}, expected, label)


def formatted(case: Case, obs: Observation) -> Finding:
    """The rate is shown as people say it, and not in hexadecimal."""
    actual, (rate, text) = (obs.list("values") or [None])[0], case.expected["values"][0]
    if actual is None:
        return fail(f"it gave None where {rate}, {text!r} is expected", "none")
    if not isinstance(actual, list) or [type(each) for each in actual] != [int, str]:
        return fail(f"it gave {shown(actual)} where a number and a text are expected", "pair")
    if (finding := answered(case, obs)).ok:
        return OK
    message = f"it gave {actual[0]}, {actual[1]!r} where {rate}, {text!r} is expected"
    if actual[0] != rate:
        return fail(message, "down" if actual[0] == rate + 1 else "rate")
    parts = re.fullmatch(r"(\d+)([A-Z])([\d.]+)", actual[1])
    garbled = parts is None or parts[1] != text[0]  # the data bits come first: whatever else is wrong can wait
    return fail(message, "bits" if garbled and finding.hint != "others" else finding.hint)


# ---- 08.3 line_status ----


def ready(nonces: Nonces) -> list[Case]:
    count, patience = nonces.range("count", 9, 30), nonces.range("patience", 40, 60)
    parameters = {"nonce": nonces.u64("guest"), "count": count, "value": patience}
    signs = [("thre", f"{count * patience:08x} "), ("temt", f" {patience:08x} ")]
    byte = nonces.range("byte", 1, 256)
    return [
        calls("line_status", {}, [[]], "thre", mistakes={"temt": 0x20}),
        guest("lsr-waiter", parameters, "thre", screen=letters(parameters["nonce"], count), mistakes=signs),
        calls("line_status", {"fifo": [byte]}, [[]], "data", fields={"fifo": "looks"}),
        calls("line_status", {"fcr": 1, "fifo": [0, byte, byte]}, [[], []], "data", fields={"fifo": "looks"}),
    ]


def told_once(nonces: Nonces) -> list[Case]:
    byte = nonces.range("byte", 32, 127)
    text = nonces.bytes("text", nonces.range("length", 18, 25))
    script = [[0, [["feed", text]]], [1, [["feed", text[:3]]]]]
    parameters = {"nonce": nonces.u64("guest"), "count": 2, "option": 0x0001_0000}
    early = [[0, []], [1, []], [2, [["feed", text]]]]
    return [
        calls("line_status", {"fifo": [byte], "errors": 0x02}, [[], []], "told", mistakes={"again": 0x63}),
        calls("line_status", {"errors": nonces.choice("bits", (0x04, 0x08, 0x10)) | 2}, [[], []], "told",
              fields={"errors": "again"}),
        guest("rx-reader", parameters | {"count": 3, "option": 0x00000001}, "told", script=early,
              more={"script": early}, label="an overrun under rx-reader"),
        guest("rx-reader", parameters, "told", script=script, more={"script": script}),
    ]  # fmt: skip


CHECKS = (
    Check(
        "08.1", "every register has its place", 1,
        exercise="register", driver="by_hand_or_guest", cases=named, judge=both, guests=("baud-setter",),
        hints=hints(
            Hint("names", "Read, with DLAB 0, the eight offsets are RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR, in this "
                 "order and in capitals.", when="IndexError|KeyError"),
            Hint("writing", "Two places have another register for writing: THR where RBR is read, FCR where IIR is "
                 "read. The others are the same in both directions. The classic mistake exchanges the two lists."),
            Hint("dlab", "While DLAB is 1, offset 0 is DLL and offset 1 is DLM, for reads and for writes alike. The "
                 "classic mistake forgets one of the directions, or exchanges DLL (low) and DLM (high)."),
            Hint("only-two", "DLAB touches the offsets 0 and 1 and no others: LCR, which has the bit itself, must stay "
                 "in reach, or nobody could ever clear it."),
        ),
    ),
    Check(
        "08.2", "the rate and the format of the line", 1,
        exercise="line_format", driver="of_a_line", cases=formats, judge=formatted, guests=("baud-setter",),
        hints=hints(
            Hint("rate", "The clock of 1.8432 MHz is divided by 16 and by the divisor: 115200 // divisor, a whole "
                 "number.", when="ZeroDivision"),
            Hint("down", "The rate is rounded down: 115200 // divisor."),
            Hint("pair", "Return two things, (rate, format): a whole number and a text, as in (9600, \"8N1\")."),
            Hint("bits", "Bits 0 and 1 of LCR are the number of data bits less five: 5 + (lcr & 3). The text has data "
                 "bits, parity and stop bits, without spaces: \"8N1\"."),
            Hint("parity", "Bit 3 switches parity on. Then bit 4 says which: 1 is even (E), 0 is odd (O)."),
            Hint("even", "Even and odd are exchanged: bit 4 is called EPS, even parity select."),
            Hint("off", "Without bit 3 there is no parity, whatever bits 4 and 5 say: N."),
            Hint("stick", "With bits 3 and 5 the parity bit is stuck: bit 4 = 0 makes it always 1 (mark, M), bit 4 = 1 "
                 "always 0 (space, S)."),
            Hint("stop", "Bit 2 makes two stop bits of one."),
            Hint("half", "With five data bits, bit 2 means one and a half stop bits: \"5N1.5\"."),
            Hint("others", "Bits 6 (break) and 7 (DLAB) are no part of the format: mask what you look at."),
        ),
    ),
    Check(
        "08.3", "a UART that says when it is ready", 1,
        exercise="line_status", driver="by_hand_or_guest", cases=ready, judge=both, guests=("lsr-waiter",),
        hints=hints(
            Hint("thre", "Bits 5 and 6, THRE and TEMT (0x60), say that the transmitter is empty. On a line where no "
                 "time passes it always is. The classic mistake: an LSR of 0, and every driver waits for its time-out, "
                 "letter by letter."),
            Hint("temt", "THRE (bit 5) alone is not enough: a console also waits for TEMT (bit 6) before it leaves the "
                 "line to others."),
            Hint("data", "Bit 0, DR, is 1 while there is a byte in `chip.fifo`, one or many, and be it a zero byte. "
                 "The classic mistake puts the *number* of bytes there, or looks at the first byte."),
            Hint("looks", "LSR only says that data is there. The byte stays until RBR is read."),
        ),
    ),
    Check(
        "08.3b", "an error is told once", 1,
        exercise="line_status", driver="by_hand_or_guest", cases=told_once, judge=both, guests=("rx-reader",),
        hints=hints(
            Hint("told", "The bits in `chip.errors` belong to the status: join them with `|`, before you clear them. "
                 "They have their places already."),
            Hint("again", "Reading LSR clears its error bits: `chip.errors` is 0 afterwards. The classic mistake "
                 "leaves them, and the driver counts the same overrun at every look. Keep the status before you clear "
                 "them."),
        ),
    ),
)  # fmt: skip
