"""Lab 08, the ways to stop: keyboard controller, chipset, ACPI and triple fault; and the machine that puts all
together."""

from __future__ import annotations

from typing import Any

from autograder import judge
from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint, Limits
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.lab08_common import answered, both, calls, guest, hints, printed, shown
from autograder.stages.models import expected_console
from minivmm.kvm import constants as k
from minivmm.lab_console import START, Clock, Parts, Pc
from minivmm.lab_console.parts import PARTS
from minivmm.lab_console.wiring import by_port

CHIPSET, S5, KEYBOARD, FAULT, HALT, SLEEP = range(6)
NAMES = "the chipset", "S5", "the keyboard controller", "a triple fault", "CLI and HLT", "STI and HLT"
ALL = (*PARTS, "access")

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
        case("forgets", [[0x64, 0xD1], [0x64, 0x20], [0x60, 0x00]], {}, "another command in place of the byte"),
        guest("kbd-tester", {"nonce": nonces.u64("a"), "count": 3, "option": 2}, "guest"),
        guest("kbd-tester", {"nonce": nonces.u64("b"), "count": 2, "option": 0}, "guest", stop="reset"),
        guest("kbd-tester", {"nonce": nonces.u64("c"), "count": 2, "option": 1}, "guest", stop="reset"),
    ]


# ---- 08.14 power ----


def switches(nonces: Nonces) -> list[Case]:
    type_ = nonces.choice("type", (0, 1, 3, 4, 6, 7))
    far = nonces.choice("far", (0x600, 0x608, 0xCF0, 0x80))

    def case(hint: str, port: int, size: int, value: int) -> Case:
        right = Parts().power(port, size, value)
        expected = {"values": [right], "states": [], "hint": hint, "mistakes": {}}
        label = f"a write of {size} byte{'s' if size > 1 else ''}, {value:#x}, to port {port:#x}"
        return Case({"calls": [[port, size, value]]}, expected, label)

    ways = [("resets", CHIPSET, "reset"), ("off", S5, "off")]
    return [
        case("resets", 0xCF9, 1, 0x06),
        case("resets", 0xCF9, 1, nonces.choice("hard", (0x04, 0x0E, 0x0C))),
        case("bit2", 0xCF9, 1, 0x02),
        case("bit2", 0xCF9, 1, 0x00),
        case("byte", 0xCF8, 4, 0x8000_0600),
        case("byte", 0xCF8, 4, 0x8000_FFFC),
        case("off", 0x604, 2, 0x3400),
        case("off", 0x604, 2, 0x3401),
        case("enable", 0x604, 2, 0x1400),
        case("type", 0x604, 2, 0x2000 | type_ << 10),
        case("type", 0x604, 2, 0x3C00),
        case("elsewhere", far, 2, 0x3406),
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
            return OK
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
        inputs = {"guest": "power-switch", "parameters": parameters, "most": runs + 3, "arguments": arguments}
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
    if value is None:
        return fail(f"it gave None where {expected['value']!r} is expected", "verdict")
    finding = judge.same_value(expected["value"], value, "what became of the machine", expected["hint"])
    if not finding.ok:
        return finding
    if runs != expected["runs"]:
        return fail(f"the guest was run {runs} times where {expected['runs']} are expected", expected["hint"])
    return judge.same_text(expected["console"], obs.bytes("console"), "what the guest printed", "boots")


# ---- 08.17 access ----


def accesses(nonces: Nonces) -> list[Case]:
    byte, other, place = nonces.range("byte", 1, 256), nonces.range("other", 1, 0x40), nonces.range("place", 0x40, 0x80)
    now = START + 1_000_000 * nonces.range("now", 0, 86_400)

    def case(hint: str, arguments: list[list[int]], label: str, **fields: str) -> Case:
        """Writes have three numbers, reads two. The library's wiring knows the answers."""
        pc = Pc(rtc=Clock(now))
        read, write = by_port(pc, Parts())
        values = []
        for each in arguments:
            values.append(read(*each) if len(each) == 2 else write(*each))
        state = {"sent": bytes(pc.uart.sent), "ier": pc.uart.ier, "scr": pc.uart.scr, "index": pc.rtc.index,
                 "config": pc.keyboard.config}  # fmt: skip
        states = [{name: state[name] for name in fields}]
        expected = {"values": values, "states": states, "hint": hint, "fields": fields, "mistakes": {}}
        return Case({"now": now, "calls": arguments}, expected, label)

    return [
        case("ignored", [[0x2F8, 1, byte]], "a write to a port that nobody has"),
        case("uart", [[0x3F8, 1, byte], [0x3FD, 1]], "the UART", sent="uart"),
        case("uart", [[0x3FF, 1, byte], [0x3FF, 1]], "the last port of the UART", scr="uart"),
        case("zero", [[0x3F9, 1, 0x0F], [0x3F9, 1, 0x00], [0x3F9, 1]], "a write of 0", ier="zero"),
        case("clock", [[0x70, 1, 0x02], [0x71, 1], [0x70, 1, 0x04], [0x71, 1]], "the clock"),
        case("store", [[0x70, 1, place], [0x71, 1, byte], [0x71, 1]], "the clock's memory"),
        case("nmi", [[0x70, 1, 0x80 | other]], "the index with bit 7 set", index="nmi"),
        case("keyboard", [[0x64, 1, 0xAA], [0x64, 1], [0x60, 1], [0x64, 1]], "the keyboard controller"),
        case("keyboard", [[0x64, 1, 0x60], [0x60, 1, other]], "its command byte", config="keyboard"),
        case("asks", [[0x64, 1, 0xFE]], "a reset by the keyboard controller"),
        case("power", [[0xCF9, 1, 0x06]], "the chipset's reset"),
        case("power", [[0x604, 2, 0x3400]], "S5"),
        case("nobody", [[0x2F8, 1]], "a port that nobody has"),
        case("nobody", [[0x1F0, 2], [0x510, 4]], "a port that nobody has"),
    ]


LINES = ("help", "echo ", "time", "peek ", "nonsense", "", "reset", "echo ")


def sessions(nonces: Nonces) -> list[Case]:
    cases = []
    for run, last in enumerate(("off", "crash")):
        words = "".join("abcdefgh"[byte & 7] for byte in nonces.bytes(f"words{run}", 12))
        data, at = nonces.bytes(f"data{run}", 16), 0x9000 + 16 * nonces.range(f"at{run}", 0, 200)
        now = START + 1_000_000 * nonces.range(f"now{run}", 0, 86_400)
        lines = ["help", f"echo {words}", "time", f"peek {at + nonces.range(f'off{run}', 0, 12):x}", words, "reset"]
        lines = [*lines, f"echo {words[::-1]}", "time", last] if not run else [f"echo {words}", "", "time", last]
        typed = [f"{line}\r" for line in lines]
        if run:
            typed = ["".join(typed)]  # all at once: longer than a FIFO
        parameters = {"nonce": nonces.u64(f"nonce{run}")}
        more = {"memory": [[at, data]], "now": now, "typed": typed, "theirs": list(ALL)}
        screen = expected_console("mini-shell", parameters, typed="".join(typed), now=now, memory=data, at=at)
        expected = {"console": b"", "stop": "off" if not run else "died", "screen": screen.decode(), "hint": "together",
                    "mistakes": [("sleeps", "asleep")]}  # fmt: skip
        cases.append(Case({"guest": "mini-shell", "parameters": parameters, **more}, expected, "mini-shell"))
    return cases


CHECKS = (
    Check(
        "08.13", "commands of the keyboard controller", 1,
        exercise="write_keyboard", driver="by_hand_or_guest", cases=commands, judge=both, guests=("kbd-tester",),
        hints=hints(
            Hint("self-test", "0xAA on port 0x64 asks for the self test: 0x55 goes to `keyboard.output`."),
            Hint("read", "0x20 on port 0x64 asks for the command byte: `keyboard.config` goes to `keyboard.output`."),
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
            Hint("loop", "A guest that does nothing but reset is stopped after `most` runs: \"boot loop\".",
                 when="still running"),
        ),
    ),
    Check(
        "08.17", "every port finds its device", 1,
        exercise="access", driver="wired", cases=accesses, judge=answered,
        hints=hints(
            Hint("uart", "0x3F8 to 0x3FF is the UART: `read_uart(pc.uart, port & 7)`, `write_uart(pc.uart, port & 7, "
                 "value)`."),
            Hint("zero", "A write of 0 is a write. `value is None` is a read; the classic mistake asks `if value`."),
            Hint("clock", "0x70 chooses the register, `pc.rtc.index`, and 0x71 reads it, `read_clock(pc.rtc)`."),
            Hint("store", "A write to 0x71 is `pc.rtc.store(value)`."),
            Hint("nmi", "Bit 7 of port 0x70 keeps NMIs off. It is no part of the index: `value & 0x7F`.",
                 when="IndexError"),
            Hint("keyboard", "0x60 and 0x64 are the keyboard controller: `pc.keyboard.read(port)`, "
                 "`write_keyboard(pc.keyboard, port, value)`."),
            Hint("asks", "Return what `write_keyboard` and `power` say: \"reset\", \"off\" or None."),
            Hint("power", "All other writes go to `power(port, size, value)`."),
            Hint("nobody", "Nobody drives the bus, so all its lines read 1: `(1 << 8 * size) - 1`, 0xFF for a byte, "
                 "0xFFFF for a word."),
            Hint("ignored", "A write that nobody wants is lost: None."),
        ),
    ),
    Check(
        "08.17b", "all your parts together: a shell", 1,
        exercise="access", driver="guest_on_the_board", cases=sessions, judge=printed, guests=("mini-shell",),
        needs=ALL, limits=Limits(seconds=3.0),
        hints=hints(
            Hint("together", "Here all parts are yours. If another check of this lab is red, mend that first; then "
                 "look at the line where the screens part."),
            Hint("sleeps", "The shell sleeps and hears nothing: the way of a typed byte is `receive`, `irq`, then "
                 "reads of LSR and RBR. If another check of this lab is red, mend that first."),
        ),
    ),
)  # fmt: skip
