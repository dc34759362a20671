"""Lab 08, the real-time clock: what its registers hold, and when they can be trusted."""

from __future__ import annotations

from typing import Any

from autograder.model import Case, Check, Hint
from autograder.nonces import Nonces
from autograder.stages.lab08_common import both, calls, guest, hints, in_words
from minivmm.devices.rtc_calendar import encode
from minivmm.lab_console import START

DAY = 86_400
SECOND = 1_000_000
BCD_24, BINARY_24, BCD_12, BINARY_12 = 2, 6, 0, 4
HOURS, REGISTERS = 4, (0, 2, 4, 6, 7, 8, 9, 0x32)

# ---- 08.11 clock_register ----


def a_day(nonces: Nonces, name: str) -> int:
    """Midnight of some day from 1980 to 2079, in s since 1970."""
    return nonces.range(name, 3653, 3653 + 36_500) * DAY


def shown(nonces: Nonces) -> list[Case]:
    day = a_day(nonces, "day")
    evening = day + nonces.range("hour", 13, 24) * 3600 + nonces.range("minute", 11, 60) * 60 + 47

    def case(register: int, moment: int, b: int, hint: str, label: str, **mistakes: int) -> Case:
        right = encode(moment, b)[register]
        if register == HOURS and b & BCD_24:
            mistakes = {"twelve": encode(moment, b ^ BCD_24)[HOURS], **mistakes}
        wrong = {key: value for key, value in mistakes.items() if value != right}
        expected = {"values": [right], "states": [], "hint": hint, "mistakes": wrong}
        inputs = {"moment": True, "calls": [[register, SECOND * moment, b]]}
        return Case(inputs, expected, f"register {register:#04x}, B = {b}, {label}")

    cases = []
    order = sorted(REGISTERS, key=lambda each: nonces.u64(f"register {each}"))
    for b, hint in ((BINARY_24, "binary"), (BCD_24, "bcd")):
        for register in order:
            cases.append(case(register, evening, b, hint, "an evening"))
    for b in (BINARY_12, BCD_12):
        for hour, label, hint in ((0, "just after midnight", "midnight"), (9, "in the morning", "morning"),
                                  (12, "just after noon", "noon"), (21, "in the evening", "pm"),
                                  (23, "before midnight", "pm")):  # fmt: skip
            moment = day + hour * 3600 + 61
            plain = hour % 12 or 12
            mistakes = {"order": plain + 0x80 if b == BINARY_12 else ((plain + 0x80) // 10 << 4 | (plain + 0x80) % 10)}
            mistakes["pm"] = encode(moment, b)[HOURS] & 0x7F
            cases.append(case(HOURS, moment, b, hint, label, **mistakes))
        cases.append(case(2, evening, b, "hours-only", "an evening"))
    parameters = {"nonce": nonces.u64("guest"), "count": 2, "option": 0, "value": nonces.choice("b", (0, 2, 4))}
    script = [[0, [["time", SECOND * evening]]], [1, [["time", SECOND * (a_day(nonces, "other") + 1800)]]]]
    return [*cases, guest("rtc-reader", parameters, "guest", script=script, more={"script": script})]


# ---- 08.12 read_clock ----


def looked_at(nonces: Nonces) -> list[Case]:
    second = SECOND * (a_day(nonces, "day") + nonces.range("second", 0, DAY))
    byte, place = nonces.range("byte", 0, 256), nonces.range("place", 0x40, 0x80)
    cmos = bytearray(128)
    cmos[place] = byte

    def case(
        hint: str, index: int, times: int = 1, fields: dict[str, str] | None = None,
        mistakes: dict[str, int] | None = None, **state: Any,
    ) -> Case:  # fmt: skip
        label = f"register {index:#04x}"
        if index == 0x0A:
            label += f", {state['now'] - second} µs after a full second"
        elif held := {name: value for name, value in state.items() if name != "cmos"}:
            label += f", {in_words(held)}"
        state = {"index": index, "now": second, **state}
        made = calls("read_clock", state, [[]] * times, hint, kind="clock", fields=fields, label=label,
                     mistakes=mistakes)  # fmt: skip
        return Case({**made.inputs, "clock": state}, made.expected, made.label)

    noon = START // (SECOND * DAY) * DAY * SECOND + 12 * 3600 * SECOND - 40
    script = [[0, [["time", noon]]], [1, [["time", noon - 1500]]], [2, [["time", noon - 5000]]]]
    parameters = {"nonce": nonces.u64("guest"), "count": 3, "option": 3, "value": 2}
    return [
        case("rate", 0x0A, now=second + nonces.range("early", 1000, 900_000)),
        case("uip", 0x0A, now=second + 999_999),
        case("uip", 0x0A, now=second + 1_000_000 - nonces.range("late", 1, 244)),
        case("long", 0x0A, now=second + 1_000_000 - nonces.range("middle", 300, 2200)),
        case("long", 0x0A, now=second + 1_000_000 - 2220),
        case("early", 0x0A, now=second + 1_000_000 - 2240),
        case("b", 0x0B, b=nonces.choice("b", (0x02, 0x06, 0x82))),
        case("told", 0x0C, 2, {"flags": "told"}, {"irqf": 0xD0}, flags=0x50, b=0x02),
        case("irqf", 0x0C, 1, flags=0x60, b=0x22),
        case("irqf", 0x0C, 1, flags=0x40, b=0x32),
        case("d", 0x0D),
        case("time", 0x00),
        case("time", 0x32, b=0x06),
        case("cmos", place, cmos=bytes(cmos)),
        case("cmos", 0x01, cmos=bytes([0, 0x59]) + bytes(126)),
        guest("rtc-reader", parameters, "torn", script=script, more={"script": script}),
    ]


CHECKS = (
    Check(
        "08.11", "what a register of the clock holds", 1,
        exercise="clock_register", driver="by_hand_or_guest", cases=shown, judge=both, guests=("rtc-reader",),
        hints=hints(
            Hint("binary", "With bit 2 of register B set (DM), registers hold plain numbers: 47 is 0x2f."),
            Hint("bcd", "With bit 2 of register B clear, registers are BCD, a decimal digit in each half: 47 is 0x47. "
                 "`value // 10 << 4 | value % 10`. The classic mistake takes the bit the wrong way round: a guest then "
                 "reads 0x2f, and thinks that it is half past strange."),
            Hint("twelve", "Bit 1 of register B (24/12) set means 24 hours, clear 12. The classic mistake takes it the "
                 "wrong way round."),
            Hint("hours-only", "Only the hours know 12 and 24; all other registers are as ever."),
            Hint("midnight", "In 12-hour mode (bit 1 of B is 0) the hour after midnight is 12 AM, not 0: "
                 "`(hour - 1) % 12 + 1`."),
            Hint("noon", "The hour after noon is 12 PM: the number 12, and bit 7. The classic mistake gives 0 PM."),
            Hint("morning", "An hour of the morning is the same in 12-hour mode, and bit 7 is 0."),
            Hint("pm", "From noon on bit 7 of the hours is 1 (PM), in 12-hour mode, BCD or binary."),
            Hint("order", "First BCD, then the bit for PM: it is no part of the number."),
            Hint("guest", "Under a driver it differs: the line is century:year/month/day hours:minutes:seconds, as the "
                 "registers have them."),
        ),
    ),
    Check(
        "08.12", "a clock that says when not to look", 1,
        exercise="read_clock", driver="by_hand_or_guest", cases=looked_at, judge=both, guests=("rtc-reader",),
        hints=hints(
            Hint("rate", "Register A is `clock.a`, and bit 7, UIP, is 0 while no update is near."),
            Hint("uip", "Bit 7 of register A, UIP, is 1 shortly before the seconds change: in the last 2228 µs of each "
                 "second. `clock.now % 1_000_000` is the µs of this second. The classic mistake: UIP never comes, and "
                 "a careful guest reads a time that never was."),
            Hint("long", "244 µs is how long before the update UIP rises; the update itself takes 1984 µs more. UIP is "
                 "1 in the last 2228 µs of each second."),
            Hint("early", "Here UIP is still 0: the update is more than 2228 µs away."),
            Hint("b", "Register B gives back `clock.b`."),
            Hint("told", "Reading register C gives `clock.flags` and clears them: a flag is told once."),
            Hint("irqf", "Bit 7 of register C, IRQF, is 1 if a flag is set whose enable, at the same place in register "
                 "B, is set too."),
            Hint("d", "Register D is 0x80: the battery is good, the time is valid. A guest that reads 0 believes "
                 "nothing."),
            Hint("time", "0, 2, 4, 6, 7, 8, 9 and 0x32 are the time: `clock_register(clock.index, clock.moment, "
                 "clock.b)`.", when="KeyError"),
            Hint("cmos", "All other registers are memory: `clock.cmos[clock.index]`. 1, 3 and 5, the alarm, are among "
                 "them."),
            Hint("torn", "A careful guest has read a time that never was: it asks UIP first, so UIP came too late, or "
                 "not at all."),
        ),
    ),
)  # fmt: skip
