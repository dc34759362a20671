"""Lab 08, the machine: every port finds its device, and all parts together are a PC with a shell."""

from __future__ import annotations

from autograder.model import Case, Check, Hint, Limits
from autograder.nonces import Nonces
from autograder.stages.lab08_common import both, guest, hints, printed
from autograder.stages.models import expected_console
from minivmm.lab_console import START, Clock, Parts, Pc
from minivmm.lab_console.parts import PARTS
from minivmm.lab_console.wiring import by_port

ALL = (*PARTS, "access")

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
        case("store", [[0x70, 1, 0x0B], [0x71, 1, 0x06], [0x71, 1]], "the clock's register B"),
        case("nmi", [[0x70, 1, 0x80 | other]], "the index with bit 7 set", index="nmi"),
        case("keyboard", [[0x64, 1, 0xAA], [0x64, 1], [0x60, 1], [0x64, 1]], "the keyboard controller"),
        case("keyboard", [[0x64, 1, 0x60], [0x60, 1, other]], "its command byte", config="keyboard"),
        case("asks", [[0x64, 1, 0xFE]], "a reset by the keyboard controller"),
        case("power", [[0xCF9, 1, 0x06]], "the chipset's reset"),
        case("power", [[0x604, 2, 0x3400]], "S5"),
        case("nobody", [[0x2F8, 1]], "a port that nobody has"),
        case("nobody", [[0x1F0, 2], [0x510, 4]], "a port that nobody has"),
        case("beside", [[0x61, 1], [0x63, 1], [0x3F7, 1]], "ports beside those of a device"),
        guest("uart-detective", {"nonce": nonces.u64("uart")}, "uart"),
        guest("kbd-tester", {"nonce": nonces.u64("keyboard"), "count": 2, "option": 0}, "keyboard", stop="reset"),
        guest("rtc-reader", {"nonce": nonces.u64("rtc"), "count": 1, "option": 3, "value": 6}, "clock"),
        guest("power-switch", {"nonce": nonces.u64("off"), "count": 0, "value": 1}, "power", stop="off"),
    ]


def sessions(nonces: Nonces) -> list[Case]:
    cases = []
    for run, last in enumerate(("off", "crash")):
        words = "".join("abcdefgh"[byte & 7] for byte in nonces.bytes(f"words{run}", 12))
        data, at = nonces.bytes(f"data{run}", 16), 0x9000 + 16 * nonces.range(f"at{run}", 0, 200)
        now = START + 1_000_000 * nonces.range(f"now{run}", 3601, 36_000)  # an afternoon, with hours like no other
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
        "08.17", "every port finds its device", 1,
        exercise="access", driver="wired", cases=accesses, judge=both,
        guests=("uart-detective", "kbd-tester", "rtc-reader", "power-switch"),
        hints=hints(
            Hint("uart", "0x3F8 to 0x3FF is the UART: `read_uart(pc.uart, port & 7)`, `write_uart(pc.uart, port & 7, "
                 "value)`. They want the register, 0 to 7, and not the port.", when="KeyError"),
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
            Hint("beside", "0x61 to 0x63 are not the keyboard controller's, and 0x3F7 is not the UART's: nobody is "
                 "there."),
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
