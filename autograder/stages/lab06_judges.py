"""The judges of lab 06: from what a guest saw, or a chip held, to a sentence that names the mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autograder import judge
from autograder.differences import in_words
from autograder.judge import fail
from autograder.model import OK, Case, Finding
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import console_lines
from minivmm.kvm import KVM_EXIT_SHUTDOWN

Judge = Callable[[Case, Observation], Finding]

ENDS = {
    "asleep": "the guest sleeps in HLT and nothing wakes it: an interrupt that it waits for did not come",
    "halted": "the guest halted with interrupts off before it had come to its end",
    "timeout": "the guest was still running after 1.5 s and was stopped",
    "endless": "the guest made 6000 exits and was stopped: it gets interrupts, or is entered, again and again",
}


def ended(obs: Observation, wanted: str = "ended", hints: dict[str, str] | None = None) -> Finding:
    """The guest ran to its end."""
    how = obs.str("stop")
    if how == wanted:
        return OK
    hint = (hints or {}).get(how, how)
    if how == "stray":
        return fail(f"an interrupt came with vector {obs.int('vector'):#x}, and the guest has no handler for it", hint)
    if how == "odd":
        vector = obs.raw("vector")
        seen = hex(vector) if type(vector) is int else describe(vector)
        return fail(f"{seen} where a vector, 0 to 255, is expected", hint)
    if how not in ENDS and how != "died":
        return fail("the guest did not run to its end")
    text = ENDS.get(how) or f"the guest died: {obs.str('why')}"
    return fail(f"{text}\n{judge.show_exits(obs.exits)}".rstrip(), hint)


def console(case: Case, obs: Observation, hint: str = "") -> Finding:
    """The guest's lines, one by one: what is missing or too much on the first wrong one says more than a diff."""
    wanted = case.expected["console"].decode().splitlines()
    seen = console_lines(obs)
    for number, line in enumerate(wanted):
        actual = seen[number] if number < len(seen) else "nothing"
        if actual != line:
            return fail(f"step {number}: the guest printed {short(actual)} where {line!r} is expected", hint)
    if len(seen) > len(wanted):
        return fail(f"the guest printed {short(seen[len(wanted)])} after its last line", hint)
    return OK


def short(line: str) -> str:
    """A line in quotes; an interrupt that comes for ever fills one with the same few letters."""
    return repr(line) if len(line) <= 60 else f"{line[:40]!r} … ({len(line)} characters)"


def on_the_bench(case: Case, obs: Observation, hint: str) -> Finding:
    """A guest of the irq family: how it ended decides before what it printed, unless it hung."""
    how = obs.str("stop")
    if how in ("ended", "endless", "asleep", "timeout"):
        finding = console(case, obs, hint)
        if not finding.ok or how == "ended":
            return finding
    return ended(obs)


def registers(case: Case, obs: Observation, names: tuple[str, ...], hint: Callable[[int, str], str]) -> Finding:
    """The chip's registers after each call of a case of one chip."""
    states = obs.list("states")
    if len(states) != len(case.expected["states"]):
        return fail(f"{len(states)} states where {len(case.expected['states'])} are expected")
    for number, (wanted, actual) in enumerate(zip(case.expected["states"], states, strict=True)):
        held = actual if isinstance(actual, dict) else {}
        for name in names:
            # A flag may be 1 as well as True.
            if type(held.get(name)) not in (int, bool) or held[name] != wanted[name]:
                call = f"after {called(case, number)} " if len(states) > 1 else ""
                shown = in_bits(name, held.get(name))
                return fail(f"{call}`chip.{name}` is {shown} where {in_bits(name, wanted[name])} is expected",
                            hint(number, name))  # fmt: skip
    return OK


def called(case: Case, number: int) -> str:
    """A call of the student's in words."""
    arguments = case.inputs["calls"][number]
    if isinstance(arguments, dict):
        return f"call {number + 1}"
    shown = ", ".join(str(each) if isinstance(each, bool) or each is None or each < 8 else hex(each)
                      for each in arguments)  # fmt: skip
    return f"call {number + 1}, (chip, {shown}),"


def in_bits(name: str, value: Any) -> str:
    if type(value) is int and value >= 0 and name in ("irr", "imr", "isr", "lines"):
        return f"{value:#010b}"
    if type(value) is int:
        return hex(value)
    return str(value) if isinstance(value, bool) else describe(value)


def values(case: Case, obs: Observation, what: str, hint: Callable[[Any, Any], str]) -> Finding:
    """What the calls returned."""
    seen = obs.list("values")
    for wanted, actual in zip(case.expected["values"], seen, strict=False):
        if type(actual) is not type(wanted) or actual != wanted:
            return fail(f"{what}: {shown(actual)} where {shown(wanted)} is expected", hint(wanted, actual))
    return OK if len(seen) == len(case.expected["values"]) else fail(f"{what}: {len(seen)} values")


def shown(value: Any) -> str:
    if type(value) is int:
        return hex(value) if value > 9 else str(value)
    return str(value) if value is None or isinstance(value, bool) else describe(value)


# ---- 06.1, 06.2 ----


def hooked(case: Case, obs: Observation) -> Finding:
    table = obs.bytes("table")
    pointers = [
        offset.to_bytes(2, "little") + segment.to_bytes(2, "little") for _, segment, offset, _ in case.expected["then"]
    ]
    elsewhere = any(pointer in table for pointer in pointers)
    for (vector, segment, offset, _), wanted in zip(case.expected["then"], pointers, strict=True):
        held = table[4 * vector : 4 * vector + 4]
        if held != wanted:
            hint = "order" if held == wanted[2:] + wanted[:2] else "place" if elsewhere else "pointer"
            text = f"at 4 × {vector:#x} the table has {held.hex(' ')} where {wanted.hex(' ')} is expected"
            return fail(f"{text}: the far pointer {segment:#06x}:{offset:#06x}", hint)
    olds, wanted_olds = obs.list(), case.expected["olds"]
    for old, wanted in zip(olds, wanted_olds, strict=False):
        if old != wanted:
            text = "the old handler was {} where ({:#x}, {:#x}) is expected".format(far(old), *wanted)
            return fail(text, hint_of_old(old, wanted))
    finding = ended(obs, "halted")
    return finding if not finding.ok else console(case, obs, "pointer")


def hint_of_old(old: Any, wanted: list[int]) -> str:
    if not (isinstance(old, list) and len(old) == 2 and all(type(part) is int for part in old)):
        return "return"
    swapped = [int.from_bytes(part.to_bytes(2, "little"), "big") for part in wanted]
    return "old-order" if old == wanted[::-1] else "old-bytes" if old in (swapped, swapped[::-1]) else "old"


def far(pointer: Any) -> str:
    if isinstance(pointer, list) and all(type(part) is int for part in pointer):
        return f"({', '.join(hex(part) for part in pointer)})"
    return describe(pointer)


FIELDS = (  # of a 64-bit gate: name, first byte, end, hint
    ("offset, bits 0–15", 0, 2, "offset"), ("selector", 2, 4, "selector"), ("type and present", 5, 6, "type"),
    ("byte 4, IST", 4, 5, "zeros"), ("offset, bits 16–31", 6, 8, "offset"), ("offset, bits 32–63", 8, 12, "high"),
    ("bytes 12–15", 12, 16, "zeros"),
)  # fmt: skip


def gate(case: Case, obs: Observation) -> Finding:
    raw = obs.raw("value")
    if not isinstance(raw, bytes):
        return fail(f"{describe(raw)} where the 16 bytes of a gate are expected", "sixteen")
    if len(raw) != 16:
        return fail(f"{len(raw)} bytes where the 16 of a 64-bit gate are expected", "sixteen")
    handler, kind = case.inputs["handler"], 0x8F if case.inputs["trap"] else 0x8E
    parts = (handler & 0xFFFF, case.inputs["selector"], kind, 0, handler >> 16 & 0xFFFF, handler >> 32, 0)
    for (name, start, end, hint), wanted in zip(FIELDS, parts, strict=True):
        found = int.from_bytes(raw[start:end], "little")
        if hint == "selector" and raw.startswith(handler.to_bytes(8, "little")):
            hint = "offset"  # in one piece, over the selector's place
        if found != wanted:
            name = "byte 5, type and present," if hint == "type" else name
            return fail(f"the gate's {name} is {found:#x} where {wanted:#x} is expected", hint)
    finding = ended(obs, "halted")
    return finding if not finding.ok else console(case, obs, "type")


# ---- one chip ----


def lines(*hints: str) -> Judge:
    """06.3: IRR after each call; `hints` by the number of the case, the last one for the guest too."""

    def judged(case: Case, obs: Observation) -> Finding:
        if "calls" in case.inputs:
            return registers(
                case, obs, ("irr", "isr"),
                lambda number, name: "others" if name == "isr" else hint_of_line(case, obs, number, hints),
            )  # fmt: skip
        return on_the_bench(case, obs, hints[-1])

    return judged


def hint_of_line(case: Case, obs: Observation, number: int, hints: tuple[str, ...]) -> str:
    """What the student has missed, by the bit that is wrong after call `number`."""
    held, call = obs.list("states")[number], case.inputs["calls"][number]
    actual, wanted = held.get("irr") if isinstance(held, dict) else None, case.expected["states"][number]["irr"]
    if type(actual) is not int or isinstance(call, dict):
        return hints[0]
    bit, up, before = 1 << call[0], call[1], case.inputs["chip"]
    if number == 0:
        return "masked" if before.get("imr") else "served" if before.get("isr") == bit else hints[0]
    if (actual ^ wanted) & ~bit:
        return "others"
    if actual & ~wanted:
        return hints[1]
    return hints[2] if up else "stays"


def first_line(mask_hint: str, order_hint: str, missed: str) -> Judge:
    """06.4: which line is first. `missed`: the hint where none is named though one waits."""

    def judged(case: Case, obs: Observation) -> Finding:
        if "calls" not in case.inputs:
            return on_the_bench(case, obs, order_hint)
        chip = case.inputs["chip"]

        def hint(wanted: Any, actual: Any) -> str:
            if type(actual) is not int:
                one = missed if wanted else "zero"
                return one if actual is None else "none" if wanted is None else "number"
            requested = 0 <= actual <= 7 and bool(chip.get("irr", 0) >> actual & 1)
            if not requested:
                return "none" if wanted is None else "number"
            if chip.get("imr", 0) >> actual & 1:
                return mask_hint
            return order_hint

        finding = values(case, obs, "the line", hint)
        return finding if not finding.ok else untouched(case, obs)

    return judged


def untouched(case: Case, obs: Observation) -> Finding:
    """A question must not change the chip."""
    return registers(case, obs, ("irr", "isr", "imr"), lambda *_: "touched")


def acknowledged(case: Case, obs: Observation) -> Finding:
    if "calls" not in case.inputs:
        return on_the_bench(case, obs, "level" if case.inputs["guest"] == "irq-shared" else "isr")
    chip, calls = case.inputs["chip"], case.inputs["calls"]

    def hint(number: int, name: str) -> str:
        if name != "irr":
            return name
        return "level" if chip.get("elcr", 0) >> calls[number][0] & 1 else "irr"

    if case.inputs["calls"] == [[0]] and not (finding := registers(case, obs, ("isr",), lambda *_: "zero")).ok:
        return finding
    finding = registers(case, obs, ("isr", "irr", "imr", "lines"), hint)
    return finding if not finding.ok else values(case, obs, "the vector", lambda *_: "vector")


def spurious(case: Case, obs: Observation) -> Finding:
    if "calls" not in case.inputs:
        return on_the_bench(case, obs, "untouched")
    finding = values(case, obs, "the vector", lambda *_: "seven")
    return finding if not finding.ok else registers(case, obs, ("isr", "irr"), lambda *_: "untouched")


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


def written(case: Case, obs: Observation) -> Finding:
    if "calls" not in case.inputs:
        return on_the_bench(case, obs, "ocw3" if case.inputs["guest"] == "irq-spurious" else "words")
    calls = case.inputs["calls"]

    def hint(number: int, name: str) -> str:
        port, value = calls[number]
        if name == "irr":
            return "edges"
        if name == "isr":
            return "ocw2"
        if name == "read_isr":
            return "icw1" if port == 0 and value & 0x10 else "ocw3"
        if port == 0:
            return "icw1"
        if name == "base" and number == 1:
            held = obs.list("states")[number].get("base")
            return "base" if held != case.inputs["chip"].get("base", 0) else "words"
        return "words"

    return registers(case, obs, ("imr", "base", "isr", "read_isr", "irr"), hint)


# ---- both chips ----


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
        for name, chips in (("isr", ("master", "slave")), ("irr", ("master", "slave")), ("lines", ("master",))):
            for chip in chips:
                held, wanted = obs.dict(chip), case.expected[chip]
                mask = 4 if name == "lines" else 0xFF  # of the lines, the wire between the chips only
                actual = held.get(name)
                if type(actual) is not int or actual & mask != wanted[name] & mask:
                    text = f"the {chip}'s `{name}` is {in_bits(name, actual)} afterwards"
                    return fail(f"{text}, where {in_bits(name, wanted[name])} is expected", hints[name])
        return OK

    return judged


# ---- 06.10 ----


def offered_by_hand(case: Case, obs: Observation) -> Finding:
    """One call of `offer`: calls of `inta`, interrupts handed over, the window that is asked for."""
    ready, _, waiting = case.inputs["hand"]
    hand = obs.list("hand")
    for number, (name, wanted) in enumerate(zip(("taken", "given", "window"), case.expected, strict=True)):
        actual = hand[number] if number < len(hand) else None
        if wanted is None or (actual == wanted and type(actual) is int):
            continue
        seen = actual if type(actual) is int else describe(actual)
        if name == "taken":
            hint = "asked" if not waiting else "early" if not ready else "one" if actual else "order"
            return fail(f"`inta` was called {seen} times where {wanted} is expected", hint)
        if name == "given":
            return fail(f"KVM_INTERRUPT was called {seen} times where {wanted} is expected", "order")
        text = f"`run.request_interrupt_window` is {seen} afterwards where {wanted} is expected"
        return fail(text, "window" if wanted else "flood")
    return OK


def offered(case: Case, obs: Observation) -> Finding:
    if "hand" in case.inputs:
        return offered_by_hand(case, obs)
    how = obs.str("stop")
    if obs.int("early"):
        return fail(f"`inta` was called while the guest took no interrupts ({obs.int('early')} times): the chip counts "
                    "the interrupt as taken", "early")  # fmt: skip
    if how == "asleep" and case.inputs["guest"] == "sti-hlt":
        return fail(ENDS["asleep"], "asleep")
    if obs.int("idle"):
        return fail(f"`run.request_interrupt_window` was left at 1 though nothing waited ({obs.int('idle')} times): "
                    "KVM_RUN then comes back at once, again and again", "flood")  # fmt: skip
    if how == "ended":
        seen = obs.bytes("console")
        hint = "early" if b"!" in seen else "never" if b"-" in seen else "order"
        return console(case, obs, hint)
    return ended(obs, hints={"timeout": "never"})


# ---- 06.13 ----


def struck(case: Case, obs: Observation) -> Finding:
    told = changes(obs.list("told"))
    wanted = [[line, level] for _, numbers in case.inputs["strikes"] for line in numbers for level in (1, 0)]
    if not told:
        return fail("KVM_IRQ_LINE was never called", "ioctl")
    for number, pair in enumerate(wanted):
        actual = told[number] if number < len(told) else None
        if actual != pair:
            seen = f"irq {actual[0]}, level {actual[1]}" if isinstance(actual, list) and len(actual) == 2 else "nothing"
            which = isinstance(actual, list) and len(actual) == 2 and actual[0] == pair[0]
            text = f"call {number + 1} of KVM_IRQ_LINE said {seen} where irq {pair[0]}, level {pair[1]} is expected"
            again = len(told) == 2 * len(wanted)
            return fail(text, "once" if again else "falls" if which or pair[1] == 0 else "line")
    if len(told) > len(wanted):
        return fail(f"{len(told)} calls of KVM_IRQ_LINE where {len(wanted)} are expected", "once")
    finding = ended(obs)
    return finding if not finding.ok else console(case, obs)


def changes(told: list[Any]) -> list[Any]:
    """The calls without those that lower a line which is down: they change nothing."""
    up: set[Any] = set()
    kept = []
    for each in told:
        if isinstance(each, list) and len(each) == 2 and type(each[0]) is int:
            if not each[1] and each[0] not in up:
                continue
            (up.add if each[1] else up.discard)(each[0])
        kept.append(each)
    return kept


# ---- 06.11, 06.12 ----


def drawn(case: Case, obs: Observation, hint: str) -> Finding:
    """What etch drew and printed."""
    wanted, seen = case.expected["console"].decode(), obs.bytes("console").decode(errors="backslashreplace")
    if seen != wanted:
        return fail(f"the guest printed {seen!r} where {wanted!r} is expected", hint)
    if obs.bytes("screen") != case.expected["screen"]:
        return fail("the drawing on the guest's screen is wrong", hint)
    return OK


def keyboard(case: Case, obs: Observation) -> Finding:
    if "waiting" in case.inputs:
        return read_by_hand(case, obs)
    how = obs.str("stop")
    if how == "asleep" and obs.int("left"):
        return fail(f"the guest sleeps, and {obs.int('left')} scan codes still wait in the keyboard", "edge")
    if how in ("halted", "asleep"):
        finding = drawn(case, obs, "status" if len(obs.bytes("console")) <= 3 else "order")
        if not finding.ok:
            return finding
    return ended(obs, "halted", {"asleep": "order"})


def read_by_hand(case: Case, obs: Observation) -> Finding:
    """Single reads, without a guest: [port, answer, bytes left] after each."""
    reads = obs.list("reads")
    for number, (port, wanted, left) in enumerate(case.expected):
        seen = reads[number] if number < len(reads) else None
        actual, still = seen if isinstance(seen, list) and len(seen) == 2 else (None, None)
        if type(actual) not in (int, bool) or actual != wanted:
            hint = "empty" if case.inputs["waiting"] == b"" else "status" if port == 0x64 else "order"
            return fail(f"port {port:#x} gave {in_words(actual)} where {in_words(wanted)} is expected", hint)
        if still != left:
            hint = "taken" if port == 0x60 else "status"
            return fail(f"after port {port:#x} was read {in_words(still)} bytes wait where {left} are expected", hint)
    return OK


def worked(case: Case, obs: Observation) -> Finding:
    how = obs.str("stop")
    if case.expected.get("raises"):
        if how == "raised":
            why = obs.str("why")
            told = str(KVM_EXIT_SHUTDOWN) in why or "SHUTDOWN" in why.upper()
            return OK if told else fail(f"RuntimeError says {why!r}, and not which exit it was", "reason")
        answer = (obs.list("answers") or [None])[-1]
        said = f"the answer was {answer!r}" if isinstance(answer, str) else "nothing was raised"
        return fail(f"the guest is dead (KVM_EXIT_SHUTDOWN) and {said}, where RuntimeError is expected", "unknown")
    if obs.int("misserved"):
        return fail(f"`serve` was called for an exit that is no port access ({obs.int('misserved')} times)", "raised")
    if how == "raised":
        return fail(f"RuntimeError: {obs.str('why')}", "raised")
    if how != "returned":
        return ended(obs, "returned")
    answers, wanted = obs.list("answers"), case.expected["answers"]
    for number, answer in enumerate(wanted):
        actual = answers[number] if number < len(answers) else None
        if actual != answer:
            seen = repr(actual) if isinstance(actual, str) else describe(actual)
            when = "before any key was typed" if not number else f"after burst {number} of keys"
            return fail(f"{when} the answer was {seen} where {answer!r} is expected", "answer")
    return drawn(case, obs, "keys") if "screen" in case.expected else console(case, obs, "keys")


def all_of_it(case: Case, obs: Observation) -> Finding:
    finding = worked(case, obs)
    if finding.ok and obs.int("idle"):
        finding = fail("`run.request_interrupt_window` was left at 1 though nothing waited")
    return finding if finding.ok else fail(f"all your parts together: {finding.message}", "parts")


# ---- the stretch problems ----


def read_back(case: Case, obs: Observation) -> Finding:
    if not obs.list():
        return fail("`kernel_registers` was never asked: the interrupt did not come")
    both = obs.list()[0]
    for number, (name, wanted) in enumerate(zip(("master", "slave"), case.expected, strict=True)):
        held = both[number] if isinstance(both, list) and number < len(both) else None
        if held != list(wanted.values()):
            seen = held if isinstance(held, list) else [held]
            text = ", ".join(in_bits(register, each) for register, each in zip(wanted, seen, strict=False))
            want = ", ".join(in_bits(register, value) for register, value in wanted.items())
            text = f"the {name}'s (irr, imr, isr, base): ({text}) where ({want}) is expected"
            return fail(text, "fields" if len(seen) == 4 else "four")
    return OK


def exits_counted(case: Case, obs: Observation) -> Finding:
    """The watchdog exit by exit: the count that it returned, and the NMIs so far."""
    steps = obs.list("steps")
    for number, (flag, (count, sent)) in enumerate(zip(case.inputs["flags"], case.expected, strict=True)):
        seen = steps[number] if number < len(steps) else None
        actual, actually_sent = seen if isinstance(seen, list) and len(seen) == 2 else (None, None)
        when = f"after exit {number + 1} (IF = {flag})"
        if actually_sent != sent:
            text = f"{when} {in_words(actually_sent)} NMIs were sent where {sent} are expected"
            never = actually_sent == sent - 1 and actual == 0  # it begins again, as if it had bitten
            return fail(text, "early" if flag else "never" if never else "when")
        if count is not None and (type(actual) is not int or actual != count):
            text = f"{when} the count is {in_words(actual)} where {count} is expected"
            return fail(text, "early" if flag else "when")
    return OK


def watched(case: Case, obs: Observation) -> Finding:
    if "flags" in case.inputs:
        return exits_counted(case, obs)
    how = obs.str("stop")
    if how in ("endless", "timeout"):
        return fail("the guest hung with interrupts off, and no NMI came", "never")
    if how != "ended":
        return ended(obs)
    return console(case, obs, "early")
