"""Lab 07, the local APIC's timer: the divider, one-shot and periodic, and the mask."""

from __future__ import annotations

from typing import Any

from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.common import LOOP, guest, on_console, suited
from autograder.stages.lab07_common import one_value
from autograder.stages.lab07_models import apic_timer
from autograder.stages.models import expected_console


def a_wait(code: int) -> int:
    """By how many bits a wait is shortened, so that some waits make a period. The divide code says how slow it is."""
    return max(1, 22 - (0 if code == 0xB else (code & 3 | code >> 1 & 4) + 1)) - 1


def apic_case(nonces: Nonces, label: str, code: int, entry: int, words: str) -> Case:
    fixed = {"count": 7, "option": a_wait(code) + 2 << 8 | code, "value": entry}
    parameters = fixed | {"nonce": suited(nonces.u64, label, lambda nonce: telling(fixed | {"nonce": nonce}))}
    inputs = {"start": nonces.range(f"start {label}", 1, 10**6)} | guest("apic-ticker", **parameters)
    return Case(inputs, expected_console("apic-ticker", parameters), f"divide register {code:#06b}, {words}")


def one_shot(nonces: Nonces) -> list[Case]:
    return [apic_case(nonces, f"nonce{code}", code, 0x40, "one-shot") for code in (0xB, 0, 1, 3, 8, 10)]


def one_shot_and_its_end(nonces: Nonces) -> list[Case]:
    initial, late = nonces.range("initial", 100, 5000), nonces.range("late", 1, 20_000)
    return [
        *one_shot(nonces),
        asked("once", initial, 0xB, 0x40, initial - 1),
        asked("once", initial, 0xB, 0x40, initial),
        asked("once", initial, 0, 0x40, 2 * initial),
        asked("stopped", 0, 0xB, 0x40, late),
        asked("reserved", initial, 0xF, 0x40, initial // 2),
    ]


def asked(hint: str, initial: int, divide: int, entry: int, elapsed: int) -> Case:
    """One question without a guest, at a tick that no guest would hit by chance."""
    question = initial, divide, entry, elapsed
    inputs = {"calls": [list(question)], "hint": hint}
    words = f"apic_timer({initial}, {divide:#06b}, {entry:#x}, {elapsed})"
    return Case(inputs, apic_timer(*question), words)


def periodic(nonces: Nonces) -> list[Case]:
    initial = nonces.range("initial", 100, 5000)
    return [
        apic_case(nonces, "periodic", 0xB, 0x2_0040, "periodic"),
        apic_case(nonces, "divided", 9, 0x2_0040, "periodic"),
        apic_case(nonces, "masked", 1, 0x3_0040, "periodic and masked"),
        apic_case(nonces, "masked once", 0xB, 0x1_0040, "one-shot and masked"),
        asked("exactly", initial, 0xB, 0x2_0040, initial - 1),
        asked("exactly", initial, 0xB, 0x2_0040, initial),
        asked("exactly", initial, 9, 0x2_0040, 3 * 64 * initial),
        asked("stopped", 0, 0xB, 0x2_0040, initial),
        asked("masked", initial, 0xB, 0x3_0040, 2 * initial),
    ]


def telling(parameters: dict[str, int]) -> bool:
    """What the guest prints shows the mistake that this mode is about, and tells three that are much alike apart."""
    right, entry = expected_console("apic-ticker", parameters), parameters["value"]
    printed = {key: apic_with(parameters, **wrong) for key, wrong in APIC_MISTAKES}
    alike = [text for key in ("each", "exactly", "once") if (text := printed[key]) != right]
    shown = "masked" if entry >> 16 & 1 else "each" if entry >> 17 & 1 else "one-shot"
    return printed[shown] != right and len(set(alike)) == len(alike)


def apic_with(parameters: dict[str, int], **wrong: Any) -> bytes:
    """What the guest would print of a timer with one mistake."""

    def timer(initial: int, divide: int, entry: int, elapsed: int) -> tuple[int, int]:
        code = divide & 3 | divide >> 1 & 4
        divisors = {"plain": 2 << (divide & 7), "two": 2 << (divide & 3), "power": 1 << code, "always": 2 << code}
        if "divide" in wrong:
            return apic_timer(initial, 0xB, entry, elapsed // divisors[wrong["divide"]])
        current, fired = apic_timer(initial, divide, entry & ~wrong.get("clear", 0) | wrong.get("set", 0), elapsed)
        divisor = 1 if code == 7 else 2 << code
        if wrong.get("long") and entry >> 17 & 1 and fired:
            fired = elapsed // divisor // (initial + 1)
        if wrong.get("late"):
            _, fired = apic_timer(initial, divide, entry, max(elapsed - divisor, 0))
        if wrong.get("still"):
            current, _ = apic_timer(initial, divide, entry & ~0x2_0000, elapsed)
        return current, int(fired > 0) if wrong.get("once") else fired

    return expected_console("apic-ticker", parameters, timer=timer)


APIC_MISTAKES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("divide", {"divide": "plain"}), ("divide", {"divide": "two"}), ("power", {"divide": "power"}),
    ("power", {"divide": "always"}), ("masked", {"clear": 0x1_0000}), ("one-shot", {"set": 0x2_0000}),
    ("periodic", {"clear": 0x2_0000}), ("each", {"once": True}), ("reload", {"still": True}),
    ("exactly", {"long": True}), ("once", {"late": True}),
)  # fmt: skip


def ran_down(case: Case, obs: Observation) -> Finding:
    if "calls" in case.inputs:
        return one_value(case, obs, {}, case.inputs["hint"], "(current count, interrupts)")
    printed = obs.bytes("console")
    if printed == case.expected:
        return OK
    key = next(
        (key for key, wrong in APIC_MISTAKES if apic_with(case.inputs["parameters"], **wrong) == printed), "count"
    )
    return on_console(obs, case.expected, key)


APIC_HINTS = (
    Hint("count", "The counter goes down by one every `divisor` clocks, from `initial`: `initial - elapsed // "
         "divisor`. It says (current, interrupts so far)."),
    Hint("divide", "The divide configuration has three bits, and bit 2 isn't one of them: bits 0, 1 and 3. The "
         "classic mistake takes the register as a number."),
    Hint("reserved", "Bit 2 of the divide configuration is reserved: whatever it is, 111 in bits 3, 1 and 0 "
         "divides by 1."),
    Hint("power", "000 divides by 2, 001 by 4, … 110 by 128; and 111 divides by 1."),
    Hint("one-shot", "Without bit 17 in its entry the timer stops at 0 and has fired once."),
    Hint("periodic", "With bit 17 in its entry the timer starts again from `initial`, each time it gets to 0."),
    Hint("reload", "A periodic timer begins again: its current count never stays at 0."),
    Hint("each", "A periodic timer fires at the end of each period: count them all, `elapsed // (initial * divisor)`."),
    Hint("exactly", "A period is `initial` steps long: the step that would make it 0 loads `initial` again, and one "
         "more interrupt has come."),
    Hint("once", "The interrupt comes with the step in which the counter reaches 0, and not one later."),
    Hint("stopped", "An initial count of 0 stops the timer, whatever its mode: (0, 0).", when="ZeroDivision"),
    Hint("tuple", "`apic_timer` gives two whole numbers, (current count, interrupts so far)."),
    Hint("masked", "Bit 16 of the entry masks the interrupt. The counter runs nonetheless."),
    Hint("type", "`apic_timer` gives two whole numbers, (current count, interrupts so far).",
         when="TypeError|ValueError"),
    LOOP,
)  # fmt: skip


CHECKS = (
    Check(
        "07.5", "one shot: the divider, and the end", 1,
        exercise="apic_timer", driver="apic_under_a_guest", cases=one_shot_and_its_end, judge=ran_down,
        guests=("apic-ticker",), hints=APIC_HINTS,
    ),
    Check(
        "07.5b", "periodic, and masked", 1,
        exercise="apic_timer", driver="apic_under_a_guest", cases=periodic, judge=ran_down, guests=("apic-ticker",),
        hints=APIC_HINTS,
    ),
)  # fmt: skip
