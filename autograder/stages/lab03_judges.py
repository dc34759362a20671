"""The judges of lab 03: from what a guest saw to a sentence that names the mistake."""

from __future__ import annotations

from typing import Any

from autograder import judge
from autograder.judge import fail
from autograder.model import OK, Case, Finding
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import console_lines, on_console

PAGE = 4096


def ended(obs: Observation) -> Finding:
    """The guest ran to its HLT."""
    match obs.str("stop"):
        case "halted":
            return OK
        case "timeout":
            return fail("the guest was still running after 1.5 s and was stopped", "never-ends")
    exits = judge.show_exits(obs.exits)
    why = obs.str("why").removeprefix("The guest died: ")
    return fail(f"the guest died: {why}\n{exits}".rstrip(), "died")


# ---- 03.1 ----


def built(obs: Observation) -> Finding:
    """The slots could be made, and the guest ran in them."""
    if "refused" in obs:
        return fail(f"the slots can't be made: {obs.str('refused')}", "refused")
    return ended(obs)


EDGES = (
    ("the last byte below the hole", "starts-early"),
    ("the hole's first byte", "starts-late"),
    ("the hole's last byte", "off-by-one"),
    ("the first byte above the hole", "off-by-one"),
)


def hole(case: Case, obs: Observation) -> Finding:
    if not (finding := built(obs)).ok:
        return finding
    wanted = case.expected.decode().splitlines()
    for number, ((place, hint), line) in enumerate(zip(EDGES, wanted, strict=True)):
        actual = console_lines(obs)[number : number + 1]
        if actual != [line]:
            shown = actual[0] if actual else "nothing"
            return fail(f"the guest at {place} (wrote > found): {shown!r} where {line!r} is expected", hint)
    return OK


def moved_up(case: Case, obs: Observation) -> Finding:
    if not (finding := built(obs)).ok:
        return finding
    return on_console(obs, case.expected, "lost-ram" if "the last" in case.label else "offset")


def one_slot(case: Case, obs: Observation) -> Finding:
    slots = obs.list()
    ram = case.inputs["ram"]
    for number, slot in enumerate(slots):
        if isinstance(slot, list) and len(slot) == 3 and isinstance(slot[1], int) and slot[1] <= 0:
            return fail(f"slot {number} has {slot[1]:#x} bytes; no slot is expected where no RAM is left", "empty-slot")
    if not (finding := judge.same_value([[0, ram, 0]], slots, "the slots", "beyond-ram")).ok:
        return finding
    finding = built(obs)
    return finding if not finding.ok else on_console(obs, case.expected)


# ---- 03.2 ----


def slot_told(case: Case, obs: Observation) -> Finding:
    told, points = obs.list("regions"), obs.list("points")
    hints = {"slot": "slot-number", "memory_size": "whole-buffer", "guest_phys_addr": "gpa"}
    for number, (slot, gpa, size, *_) in enumerate(case.inputs["slots"]):
        if number >= len(told):
            return fail("KVM_SET_USER_MEMORY_REGION was called too rarely: once for each slot is expected", "no-ioctl")
        wanted = {"slot": slot, "guest_phys_addr": gpa, "memory_size": size}
        region = told[number] if isinstance(told[number], dict) else {}
        wrong = next((name for name in wanted if region.get(name) != wanted[name]), "")
        if wrong:
            return judge.same_values(wanted, region, f"what KVM was told of slot {slot}", hints[wrong])
        if points[number : number + 1] != [True]:
            return fail("userspace_addr is not the address of the buffer", "hva")
    finding = taken(obs)
    return finding if not finding.ok else on_console(obs, case.expected["console"])


def taken(obs: Observation) -> Finding:
    """KVM took every slot, and the guest ran."""
    if "refused" in obs:
        return fail(obs.str("refused"), "other-fields")
    return ended(obs)


def flags_told(case: Case, obs: Observation) -> Finding:
    told = [region for region in obs.list("regions") if isinstance(region, dict)]
    if not told:
        return fail("KVM_SET_USER_MEMORY_REGION was never called", "flags")
    flags = told[-1].get("flags")
    wanted = case.expected["flags"]
    if flags != wanted:
        return fail(f"the last slot's flags: {flags} where {wanted} is expected", "flags")
    finding = taken(obs)
    return finding if not finding.ok else on_console(obs, case.expected["console"], "flags")


# ---- 03.3 ----


def which_slot(case: Case, obs: Observation) -> Finding:
    place = obs.list("found")[0] if len(obs.list("found")) == 1 else "nothing"
    wanted = case.expected
    if wanted is None:
        if place is None:
            return OK
        return fail(f"{_place(place)} where None is expected: no slot holds this address", "end")
    if not isinstance(place, list) or len(place) != 2:
        seen = "None" if place is None else describe(place)
        hint = "missed" if place is None else "tuple"
        return fail(f"{seen} where (slot, offset) is expected: slot {wanted[0]} holds this address", hint)
    return judge.same_value(wanted[0], place[0], "the slot", "slot")


def which_byte(case: Case, obs: Observation) -> Finding:
    if not (finding := ended(obs)).ok:
        return finding
    places, contents = obs.list("found"), obs.list("bytes")
    if not len(places) == len(contents) == len(case.expected):
        return fail(f"{len(places)} places where {len(case.expected)} are expected")
    for gpa, place, wanted, found in zip(case.inputs["addresses"], places, case.expected, contents, strict=True):
        if found != wanted:
            at = f"{gpa:#x}, which find places at {_place(place)}"
            seen = found.hex(" ") if isinstance(found, bytes) else "nothing"
            hint = "missed" if place is None else "offset"
            return fail(f"the guest wrote {wanted.hex(' ')} at {at}; your buffer has {seen} there", hint)
    return OK


def _place(place: Any) -> str:
    if isinstance(place, list) and len(place) == 2 and all(isinstance(part, int) for part in place):
        return f"(slot {place[0]}, offset {place[1]:#x})"
    return "no slot" if place is None else describe(place)


# ---- 03.4 ----

ACCESSES = ("1 byte", "2 bytes", "4 bytes", "8 bytes", "8 bytes across a page boundary")


def reads(case: Case, obs: Observation, which: range, hint: str) -> Finding:
    """The lines of mmio-prober's console for these reads, each as the number that the guest read."""
    if not (finding := ended(obs)).ok:
        return finding
    wanted = case.expected["console"].decode().splitlines()
    for number in which:
        actual = (console_lines(obs)[number : number + 1] or ["nothing"])[0]
        if actual != wanted[number]:
            text = f"the guest's read of {ACCESSES[number]} found {actual} where {wanted[number]} is expected"
            exits = judge.show_exits(obs.exits[: 12 if number == 4 else 2 * number + 2])
            return fail(f"{text}\n{exits}".rstrip(), why_read(wanted[number], actual, hint))
    return OK


def why_read(wanted: str, actual: str, otherwise: str) -> str:
    used = len(wanted.lstrip("0")) + 1 & ~1
    try:
        flipped = bytes.fromhex(wanted[16 - used :])[::-1].hex()
    except ValueError:
        return otherwise
    if used > 2 and actual[16 - used :] == flipped:
        return "byte-order"
    if set(wanted[16 - used :]) == {"f"} and not actual.strip("0"):
        return "all-ones"
    return otherwise


def mmio_widths(case: Case, obs: Observation) -> Finding:
    for number in range(4):  # one byte has no width to get wrong
        if not (finding := reads(case, obs, range(number, number + 1), "width" if number else "direction")).ok:
            return finding
    base = case.inputs["parameters"]["address"] - case.inputs["base"]
    window = slice(base + 8, base + 0x38)
    kept, held = obs.bytes("registers"), case.inputs["registers"]
    hint = "ignored" if kept == held else "base" if kept[window] == held[window] else "width"
    wanted = case.expected["registers"][window]
    return judge.same_bytes(wanted, kept[window], "the registers after the guest's writes", hint)


def mmio_nobody(case: Case, obs: Observation) -> Finding:
    if not (finding := reads(case, obs, range(5), "outside")).ok:
        return finding
    after = obs.bytes("registers")
    return judge.same_bytes(case.expected["registers"], after, "the registers after the guest's writes", "outside")


def mmio_split(case: Case, obs: Observation) -> Finding:
    if not (finding := reads(case, obs, range(4, 5), "two-exits")).ok:
        return finding
    at = case.inputs["parameters"]["address"] - case.inputs["base"] + 0xFFC
    window = slice(at, at + 8)
    kept = obs.bytes("registers")[window]
    return judge.same_bytes(case.expected["registers"][window], kept, "the registers on both sides", "two-exits")


# ---- 03.5 ----


def rom_log(case: Case, obs: Observation) -> Finding:
    if not (finding := ended(obs)).ok:
        return finding
    log, wanted = obs.list("log"), case.expected["log"]
    for number, entry in enumerate(wanted):
        if number >= len(log):
            return fail(
                f"the log has {len(log)} entries where {len(wanted)} are expected: one for each write", "append"
            )
        if log[number] != entry:
            seen, want = _write(log[number]), _write(entry)
            return fail(f"entry {number} of the log is {seen} where {want} is expected", why_entry(log[number], entry))
    if len(log) > len(wanted):
        return fail(f"the log has {len(log)} entries where {len(wanted)} are expected", "append")
    return on_console(obs, case.expected["console"])


def is_write(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], int) and isinstance(entry[1], bytes)


def why_entry(actual: Any, wanted: Any) -> str:
    if not is_write(actual):
        return "bytes"
    return "length" if actual[0] == wanted[0] else "address"


def _write(entry: Any) -> str:
    if is_write(entry):
        return f"({entry[0]:#x}, {entry[1].hex(' ') or 'no bytes'})"
    return describe(entry)


def rom_answers(case: Case, obs: Observation) -> Finding:
    if not (finding := ended(obs)).ok:
        return finding
    rom = range(case.inputs["rom_gpa"], case.inputs["rom_gpa"] + case.inputs["rom_size"])
    answers = obs.list("answers")
    if len(answers) != len(case.expected["answers"]):
        return fail(f"{len(answers)} MMIO exits where {len(case.expected['answers'])} are expected", "whose")
    for wanted, actual in zip(case.expected["answers"], answers, strict=True):
        if actual != wanted or type(actual[2]) is not bool:
            address, is_write, answer = wanted
            what = f"a {'write to' if is_write else 'read of'} {address:#x} (the ROM is {rom.start:#x}–{rom[-1]:#x})"
            seen = actual[2] if isinstance(actual, list) and len(actual) == 3 else actual
            said = seen if isinstance(seen, bool) else describe(seen)
            return fail(f"to {what} the answer was {said} where {answer} is expected", "answer" if answer else "whose")
    logged = [entry[0] for entry in obs.list("log") if isinstance(entry, list) and entry]
    return judge.same_value([entry[0] for entry in case.expected["log"]], logged, "the addresses in the log", "whose")


# ---- 03.6 ----


def elf_lines(obs: Observation, expected: bytes, which: tuple[int, ...], hint: str) -> Finding:
    if not (finding := ended(obs)).ok:
        return finding
    wanted, seen = expected.decode().splitlines(), console_lines(obs)
    for number in which:
        actual = seen[number] if number < len(seen) else "nothing"
        if actual != wanted[number]:
            return fail(f"the guest's checksum: {actual!r} where {wanted[number]!r} is expected", hint)
    return OK


def elf_segments(case: Case, obs: Observation) -> Finding:
    return elf_lines(obs, case.expected["console"], (0, 1), "segments")


def elf_bss(case: Case, obs: Observation) -> Finding:
    return elf_lines(obs, case.expected["console"], (2,), "bss")


def elf_addresses(case: Case, obs: Observation) -> Finding:
    entry = judge.same_value(case.expected["entry"], obs.int(), "the entry that load_elf returned", "entry")
    if not entry.ok or "loads" not in case.expected:
        return entry if not entry.ok else ended(obs)
    writes = [write for write in obs.list("writes") if isinstance(write, list) and len(write) == 2]
    memory = {gpa + i: byte for gpa, data in writes for i, byte in enumerate(data)}
    for virtual, physical, data in case.expected["loads"]:
        if any(memory.get(physical + i) != byte for i, byte in enumerate(data)):
            hint = "physical" if virtual in memory else "segments"
            written = ", ".join(f"{gpa:#x}" for gpa, _ in writes[:6]) or "nowhere"
            return fail(f"a segment is missing at its place {physical:#x}; write was called for {written}", hint)
    _, note, data = case.expected["note"]
    if note in memory or data in [write[1] for write in writes]:
        return fail("a PT_NOTE entry was loaded into memory; only PT_LOAD segments belong there", "only-load")
    inside = {physical + i for _, physical, data in case.expected["loads"] for i in range(len(data))}
    if outside := sorted(memory.keys() - inside):
        return fail(f"{len(outside)} bytes outside the segments were written, the first at {outside[0]:#x}", "beyond")
    return OK


# ---- 03.7, 03.8, 03.9 ----


def bitmap(case: Case, obs: Observation) -> Finding:
    value, wanted = obs.bytes(), case.expected
    if len(value) != len(wanted):
        hint = "whole-words" if len(value) < len(wanted) else "too-long"
        return fail(f"a bitmap of {len(value)} bytes where {len(wanted)} are expected", hint)
    return judge.same_bytes(wanted, value, "the bitmap", "" if any(value) else "empty")


def page_list(case: Case, obs: Observation) -> Finding:
    actual, wanted = obs.ints(), case.expected
    if actual == wanted:
        return OK
    first = case.inputs["first_gpa"]
    flipped = sorted(first + PAGE * ((n := (gpa - first) // PAGE) & ~7 | 7 - n & 7) for gpa in wanted)
    hints = {
        tuple(flipped): "bit-order",
        tuple(gpa - first for gpa in wanted): "first-gpa",
        tuple((gpa - first) // PAGE for gpa in wanted): "addresses",
        tuple(first + (gpa - first) // PAGE for gpa in wanted): "addresses",
    }
    hint = hints.get(tuple(actual), hints.get(tuple(sorted(actual)), ""))
    missing = [f"{gpa:#x}" for gpa in wanted if gpa not in set(actual)]
    extra = [f"{gpa:#x}" for gpa in actual if gpa not in set(wanted)]
    named = {"missing": missing, "not written": extra}
    parts = [f"{word}: {', '.join(gpas[:6])}{' …' if gpas[6:] else ''}" for word, gpas in named.items() if gpas]
    return fail(
        "\n  ".join([f"{len(actual)} pages where {len(wanted)} are expected", *(parts or ["in another order"])]), hint
    )


def heat(case: Case, obs: Observation) -> Finding:
    ends = [end for end in obs.list("ends") if isinstance(end, dict)]
    rounds = len(case.inputs["rounds"])
    for number, end in enumerate(ends):
        if end.get("stop") != "halted":
            return fail(f"in round {number} the guest did not halt: {end.get('why')}", "memory")
    for number, (end, wrote) in enumerate(zip(ends, case.expected["wrote"], strict=False)):
        if end.get("found") != wrote:
            text = f"in round {number} the guest's writes did not arrive at their places in the buffer"
            return fail(text, "own-offset")
    if len(ends) != rounds:
        return fail(f"play was called {len(ends)} times where {rounds} are expected", "rounds")
    counts = {gpa: count for gpa, count in obs.dict().items() if isinstance(gpa, int)}
    wanted: dict[int, int] = case.expected["counts"]
    for start, end_ in case.expected["regions"]:
        for gpa in range(start, end_, PAGE):
            if counts.get(gpa, 0) != wanted.get(gpa, 0):
                where = "above the hole" if gpa >= case.inputs["hole_end"] else "below the hole"
                text = (
                    f"the page {gpa:#x} ({where}): {counts.get(gpa, 0)} rounds where {wanted.get(gpa, 0)} are expected"
                )
                if counts.get(gpa, 0) > wanted.get(gpa, 0):
                    return fail(text, "too-hot")
                return fail(text, "each-round" if counts.get(gpa, 0) else "each-slot")
    return OK
