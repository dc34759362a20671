"""Lab 08, the ways to stop: keyboard controller, chipset, ACPI and triple fault."""

from __future__ import annotations

from typing import Any

from autograder import judge
from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.lab08_common import both, calls, guest, hints, shown
from autograder.stages.models import expected_console
from minivmm.kvm import constants as k
from minivmm.lab_console import Parts

CHIPSET, S5, KEYBOARD, FAULT, HALT, SLEEP = range(6)
NAMES = "the chipset", "S5", "the keyboard controller", "a triple fault", "CLI and HLT", "STI and HLT"

# ---- 08.13 write_keyboard ----


def commands(nonces: Nonces) -> list[Case]:
    config = nonces.range("config", 0, 256) & ~0x10  # bit 4 switches the keyboard off, which data switches on again
    other = (config ^ nonces.range("other", 1, 16)) & 0x0F

    def case(hint: str, arguments: list[list[int]], fields: dict[str, str], label: str, **state: Any) -> Case:
        return calls("write_keyboard", state, arguments, hint, kind="keyboard", fields=fields, label=label)

    output, held = {"output": "self-test"}, {"config": "config"}
    return [
        case("quiet", [[0x64, 0xAA]], output, "the self test"),
        case("quiet", [[0x64, 0x20]], {"output": "read"}, "the command byte read", config=config),
        case("quiet", [[0x64, 0x60], [0x60, config]], {**held, "output": "answer"}, "the command byte written"),
        case("quiet", [[0x64, 0x60], [0x60, config], [0x60, other]], held, "a second byte behind it"),
        case("quiet", [[0x60, other]], held, "a byte that no command asked for"),
        case("pulse", [[0x64, 0xFE]], {}, "0xfe, the pulse"),
        case("pulse", [[0x64, 0xFF]], {}, "0xff, which pulses no line"),
        case("output-port", [[0x64, 0xD1], [0x60, 0xDF]], held, "the output port written, RESET high"),
        case("output-port", [[0x64, 0xD1], [0x60, 0xDE]], held, "the output port written, RESET low"),
        case("data", [[0x60, 0xFE]], {}, "0xfe on the data port"),
        case("quiet", [[0x64, 0x20], [0x64, 0xAA], [0x64, 0x20]], {"output": "queue"}, "three answers wait"),
        case("forgets", [[0x64, 0xD1], [0x64, 0x20], [0x60, 0x00]], {}, "another command in place of the byte"),
        guest("kbd-tester", {"nonce": nonces.u64("a"), "count": 3, "option": 2}, "guest"),
        guest("kbd-tester", {"nonce": nonces.u64("b"), "count": 2, "option": 0}, "guest", stop="reset"),
        guest("kbd-tester", {"nonce": nonces.u64("c"), "count": 2, "option": 1}, "guest", stop="reset"),
    ]


# ---- 08.14 power ----


def switches(nonces: Nonces) -> list[Case]:
    type_ = nonces.choice("type", (0, 1, 3, 4, 6, 7))
    far, near = nonces.choice("far", (0x600, 0x608, 0xCF0, 0x80)), nonces.choice("near", (0xCF8, 0xCFA, 0x604, 0x80))

    def case(hint: str, port: int, size: int, value: int) -> Case:
        right = None if port == 0xCF9 and size > 1 else Parts().power(port, size, value)
        expected = {"values": [right], "states": [], "hint": hint, "mistakes": {}}
        label = f"a write of {size} byte{'s' if size > 1 else ''}, {value:#x}, to port {port:#x}"
        return Case({"calls": [[port, size, value]]}, expected, label)

    ways = [("resets", CHIPSET, "reset"), ("off", S5, "off")]
    return [
        case("resets", 0xCF9, 1, 0x06),
        case("resets", 0xCF9, 1, 0x04),
        case("resets", 0xCF9, 1, nonces.choice("hard", (0x0E, 0x0C, 0x84))),
        case("bit2", 0xCF9, 1, 0x02),
        case("bit2", 0xCF9, 1, 0x00),
        case("byte", 0xCF8, 4, 0x8000_0600),
        case("byte", 0xCF8, 4, 0x8000_FFFC),
        case("only-bytes", 0xCF9, nonces.choice("size", (2, 4)), 0x06),
        case("off", 0x604, 2, 0x3400),
        case("off", 0x604, 2, 0x3401),
        case("enable", 0x604, 2, 0x1400),
        case("type", 0x604, 2, 0x2000 | type_ << 10),
        case("type", 0x604, 2, 0x3C00),
        case("elsewhere", far, 2, 0x3406),
        case("elsewhere", near, 1, 0x06),
        *(guest("power-switch", {"nonce": nonces.u64(end), "count": 0, "value": way}, hint, stop=end)
          for hint, way, end in ways),
    ]  # fmt: skip


# ---- 08.15 verdict ----


def ends(nonces: Nonces) -> list[Case]:
    def real(way: int, wanted: str, hint: str) -> Case:
        parameters = {"nonce": nonces.u64(f"nonce{way}"), "count": 0, "value": way}
        inputs = {"guest": "power-switch", "parameters": parameters}
        return Case(inputs, (wanted, hint), f"a guest that ends by {NAMES[way]}")

    def page(asked: str | None, reason: int, wanted: str, hint: str, label: str) -> Case:
        inputs = {"page": {"exit_reason": reason, "if_flag": nonces.range(label, 0, 2)}, "asked": asked}
        return Case(inputs, (wanted, hint), label)

    return [
        real(CHIPSET, "reset", "asked"),
        real(S5, "off", "asked"),
        real(HALT, "halted", "halted"),
        real(SLEEP, "asleep", "asleep"),
        real(FAULT, "died", "died"),
        real(KEYBOARD, "reset", "asked"),
        page("off", k.KVM_EXIT_IO, "off", "asked", "a guest that asked for “off”"),
        page(None, k.KVM_EXIT_INTERNAL_ERROR, "RuntimeError", "unknown", "KVM_EXIT_INTERNAL_ERROR"),
        page(None, k.KVM_EXIT_FAIL_ENTRY, "RuntimeError", "unknown", "KVM_EXIT_FAIL_ENTRY"),
    ]


def decided(case: Case, obs: Observation) -> Finding:
    wanted, hint = case.expected
    if wanted == "RuntimeError":
        if obs.raised == wanted:
            number, said = case.inputs["page"]["exit_reason"], obs.str("said")
            if any(form in said for form in (str(number), f"{number:x}", f"{number:X}", case.label)):
                return OK
            return fail(f"its text is {said[:60]!r}: which exit it was, {number}, is not in it", "number")
        said = f"it raised {obs.raised}" if obs.raised else f"it gave {shown(obs.raw())}"
        return fail(f"{said} where RuntimeError is expected: nobody here knows this exit", hint)
    if obs.raised:
        return fail(f"it raised {obs.raised[:60]} where {wanted!r} is expected", hint)
    if obs.raw() is None:
        return fail(f"it gave None where {wanted!r} is expected", "none")
    return judge.same_value(wanted, obs.raw(), "the verdict", hint)


# ---- 08.16 live ----


def lives(nonces: Nonces) -> list[Case]:
    def case(name: str, count: int, value: int, wanted: str, hint: str, runs: int, arguments: list[int]) -> Case:
        option = nonces.choice(f"{name} option", (CHIPSET, KEYBOARD))
        parameters = {"nonce": nonces.u64(name), "count": count, "value": value, "option": option}
        console = expected_console("power-switch", parameters, boots=runs)
        inputs = {"guest": "power-switch", "parameters": parameters, "most": runs + 3, "arguments": arguments,
                  "lcr": 0x83}  # fmt: skip
        return Case(inputs, {"value": wanted, "runs": runs, "hint": hint, "console": console}, f"{name}")

    resets = nonces.range("resets", 1, 4)
    most = nonces.range("most", 2, 4)
    return [
        case("no reset", 0, S5, "off", "returns", 1, []),
        case("a reset or more, then off", resets, S5, "off", "boots", resets + 1, []),
        case("a reset, then a triple fault", 1, FAULT, "died", "returns", 2, []),
        case("a guest that sleeps", 0, SLEEP, "asleep", "returns", 1, []),
        case(f"a guest that resets for ever, most = {most}", 99, S5, "boot loop", "loop", most, [most]),
        case("a guest that resets for ever", 99, S5, "boot loop", "loop", 5, []),
    ]


def lived(case: Case, obs: Observation) -> Finding:
    expected, runs = case.expected, obs.int("runs")
    if obs.str("stop") == "endless":
        hint = "loop" if expected["value"] == "boot loop" else "returns"
        return fail(f"the guest was run {runs} times and more, where {expected['runs']} are expected", hint)
    value = obs.raw()
    if obs.bool("stale"):
        return fail("`verdict` was given a page that isn't the machine's any more", "page")
    if value is None:
        return fail(f"it gave None where {expected['value']!r} is expected", "verdict")
    if obs.int("boots") > runs + (expected["value"] == "boot loop"):
        return fail(f"runs: {runs}, boots: {obs.int('boots')}, the first of which is ours", "first")
    finding = judge.same_value(expected["value"], value, "what became of the machine", expected["hint"])
    if not finding.ok:
        return finding
    if runs != expected["runs"]:
        return fail(f"the guest was run {runs} times where {expected['runs']} are expected", expected["hint"])
    if runs > 1 and obs.bool("dlab"):
        return fail("the UART still has DLAB set, as before the reset", "devices")
    return judge.same_text(expected["console"], obs.bytes("console"), "what the guest printed", "boots")


CHECKS = (
    Check(
        "08.13", "commands of the keyboard controller", 1,
        exercise="write_keyboard", driver="by_hand_or_guest", cases=commands, judge=both, guests=("kbd-tester",),
        hints=hints(
            Hint("self-test", "0xAA on port 0x64 asks for the self test: 0x55 goes to `keyboard.output`."),
            Hint("read", "0x20 on port 0x64 asks for the command byte: `keyboard.config` goes to `keyboard.output`."),
            Hint("queue", "What waits in `keyboard.output` stays there: append behind it."),
            Hint("config", "0x60 on port 0x64 says that the *next* byte to port 0x60 is the new command byte, that one "
                 "and no other: `keyboard.expects` remembers it, and forgets it when the byte has come. The classic "
                 "mistake takes 0x60 itself, or every byte that comes later."),
            Hint("answer", "Writing the command byte gives no answer."),
            Hint("pulse", "0xFE pulses RESET low: \"reset\". 0xFF pulses no line: None."),
            Hint("output-port", "0xD1 says that the next byte goes to the output port, whose bit 0 is RESET, *low* "
                 "active: \"reset\" if the bit is 0, else None. It is no command byte."),
            Hint("data", "Commands come to port 0x64 only. On port 0x60, 0xFE is data."),
            Hint("forgets", "A new command in place of the byte: the old one is forgotten."),
            Hint("quiet", "That asks for no reset: None. Answers to the guest are not returned, they are appended to "
                 "`keyboard.output`."),
            Hint("guest", "Under a driver it differs: the first line is the self test and the command byte, then each "
                 "command byte as it was written and as it was read; -- is an answer that did not come."),
        ),
    ),
    Check(
        "08.14", "the chipset's reset, and off by ACPI", 1,
        exercise="power", driver="by_hand_or_guest", cases=switches, judge=both, guests=("power-switch",),
        hints=hints(
            Hint("resets", "A byte with bit 2 set, written to port 0xCF9, resets: \"reset\"."),
            Hint("bit2", "Without bit 2 nothing is reset: bit 1 only says which kind of reset it shall be. The classic "
                 "mistake resets at the first of the two writes, or compares with 6."),
            Hint("byte", "A doubleword to port 0xCF8 is the PCI address. Its second byte lies at 0xCF9 and must reset "
                 "nothing: the port itself must be 0xCF9, the size 1."),
            Hint("only-bytes", "The reset register is a byte: a wider access to port 0xCF9 is none of its business."),
            Hint("off", "On port 0x604, PM1a control, bit 13 is SLP_EN and bits 10 to 12 are the type of sleep. Type 5 "
                 "with SLP_EN is \"off\". Other bits (SCI_EN is bit 0) don't matter."),
            Hint("enable", "The type alone does nothing: SLP_EN, bit 13, is missing."),
            Hint("type", "In this machine only type 5 is \"off\": (value >> 10) & 7 must *be* 5. Other types are other "
                 "ways to sleep, which this machine hasn't."),
            Hint("elsewhere", "That is another port: None."),
        ),
    ),
    Check(
        "08.15", "six ends, five words", 1,
        exercise="verdict", driver="judged_page", cases=ends, judge=decided, guests=("power-switch",),
        hints=hints(
            Hint("asked", "Where the guest has asked for something, that is the verdict, whatever the page says: it "
                 "stopped at a port."),
            Hint("halted", "KVM_EXIT_HLT with `page.if_flag` 0: nothing can wake it, \"halted\"."),
            Hint("asleep", "KVM_EXIT_HLT with `page.if_flag` 1: it waits for an interrupt, \"asleep\"."),
            Hint("died", "KVM_EXIT_SHUTDOWN is the triple fault: \"died\". The classic mistake takes the name for "
                 "\"switched off\"."),
            Hint("unknown", "An exit that nobody knows must not pass in silence: raise RuntimeError, with the reason "
                 "in its text."),
            Hint("number", "Whoever reads it wants to look the exit up: `RuntimeError(f\"exit {page.exit_reason}\")`."),
        ),
    ),
    Check(
        "08.16", "again from the start, but not for ever", 1,
        exercise="live", driver="lived", cases=lives, judge=lived, guests=("power-switch",),
        hints=hints(
            Hint("verdict", "What `board.go()` gives is only what the guest has asked for, perhaps None. The word for "
                 "the end is `verdict(board.page, …)`'s; and it must be returned."),
            Hint("returns", "Everything but \"reset\" is an end: return it at once, and boot no more."),
            Hint("boots", "At \"reset\" call `board.boot()`, then `board.go()` again. The classic mistake goes on "
                 "without a boot: the guest continues behind the write that should have reset it."),
            Hint("first", "The board comes booted, and a guest that sleeps is to go on where it is: boot after a run, "
                 "and at \"reset\" only."),
            Hint("page", "A boot makes a new machine, and that has a page of its own: ask for `board.page` in each "
                 "round."),
            Hint("devices", "A reset is for the devices, too: `board.boot()`, without `devices=False`."),
            Hint("loop", "A guest that does nothing but reset is stopped after `most` runs: \"boot loop\".",
                 when="still running"),
        ),
    ),
)  # fmt: skip
