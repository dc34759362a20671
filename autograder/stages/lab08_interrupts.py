"""Lab 08, the interrupts of the UART: which source is named, and when the line goes up."""

from __future__ import annotations

from typing import Any

from autograder.model import Case, Check, Hint
from autograder.nonces import Nonces
from autograder.stages.lab08_common import BY_IIR, both, calls, guest, hints
from autograder.stages.lab08_models import letters

LOOKED = {"fifo": "touched", "errors": "touched", "thre": "touched", "deltas": "touched"}
ALL = {"fifo": [0x41], "errors": 0x02, "thre": True, "deltas": 0x01}

# ---- 08.6 identify ----


def priorities(nonces: Nonces) -> list[Case]:
    byte = nonces.range("byte", 0, 256)
    some = nonces.range("some", 1, 16)

    def case(hint: str, ier: int, **state: Any) -> Case:
        return calls("identify", {"ier": ier, **state}, [[]], hint, fields=LOOKED)

    everything = {**ALL, "fifo": [byte]}
    text = nonces.bytes("text", 3)
    script = [[0, [["feed", text[:1]]]], [1, [["errors", 0x02], ["deltas", 0x04], ["feed", text[:2]]]],
              [2, [["deltas", 0x08]]]]  # fmt: skip
    parameters = {"nonce": nonces.u64("guest"), "count": 3, "value": 0x0F, "option": 0x0801}
    return [
        case("quiet", 0x0F),
        case("enabled", 0x00, **everything),
        case("data", 0x01, fifo=[byte]),
        case("status", 0x04, errors=0x02),
        case("empty", 0x02, thre=True),
        case("modem", 0x08, deltas=some),
        case("order", 0x0F, **everything),
        case("order", 0x0B, **everything),
        case("order", 0x0A, **everything),
        case("enabled", 0x08, **everything),
        case("enabled", 0x0E, fifo=[byte]),
        case("enabled", 0x0D, thre=True),
        case("fifos", 0x0F, fcr=0x01, **everything),
        case("fifos", 0x00, fcr=0x01),
        case("data", 0x01, fcr=0x01, fifo=[byte, byte]),
        guest("iir-logger", parameters, "guest", script=script, more={"script": script}),
    ]


def levels(nonces: Nonces) -> list[Case]:
    cases = []
    for code, level in enumerate((1, 4, 8, 14)):
        fcr = code << 6 | 1
        for length in sorted({level - 1, level, nonces.range(f"more{code}", level, 17)}):
            hint = "time-out" if 0 < length < level else "level"
            state = {"ier": 0x03, "fcr": fcr, "fifo": list(nonces.bytes(f"{code}{length}", length)), "thre": True}
            label = f"fcr={fcr:#04x}, {length} byte{'s' if length != 1 else ''} received"
            made = calls("identify", state, [[]], hint, label=label)
            right = made.expected["values"][0]
            made.expected["mistakes"] = {"shape": right & 0x3F}
            if right != 0xC2:
                made.expected["mistakes"]["unseen" if right == 0xC4 else "time-out"] = 0xC2
            cases.append(made)
    cases.append(calls("identify", {"ier": 0x02, "fcr": 0xC1, "fifo": [1, 2], "thre": True}, [[]], "enabled"))
    text = nonces.bytes("text", 16)
    script = [[0, [["feed", text[:14]]]], [1, [["feed", text[:13]]]], [2, [["feed", text]]]]
    parameters = {"nonce": nonces.u64("guest"), "count": 3, "value": 0x01, "option": 0x08C1}
    return [*cases, guest("iir-logger", parameters, "guest", script=script, more={"script": script})]


# ---- 08.10 irq ----


def lines(nonces: Nonces) -> list[Case]:
    byte = nonces.range("byte", 0, 256)

    def case(hint: str, **state: Any) -> Case:
        made = calls("irq", state, [[]], hint, fields=LOOKED)
        return Case({**made.inputs, "truth": True}, made.expected, made.label)

    nonce, count = nonces.u64("guest"), nonces.range("count", 5, 20)
    sender = {"nonce": nonce, "count": count}
    stuck = [("up", "asleep")]
    return [
        case("up", ier=1, mcr=0x08, fifo=[byte]),
        case("open", ier=1, mcr=0x0B, fifo=[byte]),
        case("quiet", ier=1, mcr=0x0B, thre=True),
        case("no-cause", ier=1, mcr=0x08, fcr=1),
        case("up", ier=0x0F, mcr=0x08, deltas=1),
        case("gate", ier=1, mcr=0x03, fifo=[byte]),
        case("gate", ier=1, mcr=0x07, fifo=[byte]),
        case("loop", ier=1, mcr=0x1B, fifo=[byte]),
        case("up", ier=4, mcr=0x08, errors=2, fcr=1),
        case("open", ier=2, mcr=0x09, thre=True),
        guest("thre-sender", sender, "gate", screen="*" + letters(nonce, count), mistakes=stuck),
    ]


CHECKS = (
    Check(
        "08.6", "the most urgent matter comes first", 1,
        exercise="identify", driver="by_hand_or_guest", cases=priorities, judge=both, guests=("iir-logger",),
        hints=hints(
            Hint("quiet", "Nothing is the matter: IIR is 0x01. Bit 0 is 1 when *no* interrupt waits; the classic "
                 "mistake takes it the other way round, or gives 0, which means the modem."),
            Hint("enabled", "A source that is not enabled in `chip.ier` is not named, whatever has happened. Its bits: "
                 "0 data, 1 empty transmitter, 2 line status, 3 modem. They are in another order than the priorities."),
            Hint("data", "Received data is 0x04; bit 0 of `chip.ier` enables it."),
            Hint("status", "An error in `chip.errors` is 0x06; bit 2 of `chip.ier` enables it."),
            Hint("empty", "The empty transmitter, `chip.thre`, is 0x02; bit 1 of `chip.ier` enables it. LSR is no help "
                 "here: it says \"empty\" for ever, and an interrupt comes once."),
            Hint("modem", "A change of the modem's lines, `chip.deltas`, is 0x00; bit 3 of `chip.ier` enables it."),
            Hint("order", "Only the most urgent one is named: line status (0x06), then data (0x04), then the empty "
                 "transmitter (0x02), then the modem (0x00). The classic mistake joins them with `|`."),
            Hint("fifos", "With the FIFOs on (bit 0 of `chip.fcr`) bits 6 and 7 of IIR are 1, whatever the rest says: "
                 "by them a driver knows a 16550A."),
            Hint("touched", "`identify` looks and changes nothing. What a read of IIR takes back is `read_uart`'s."),
            BY_IIR,
        ),
    ),
    Check(
        "08.6b", "a level for the crowd, a time-out for the rest", 1,
        exercise="identify", driver="by_hand_or_guest", cases=levels, judge=both, guests=("iir-logger",),
        hints=hints(
            Hint("level", "Data is 0x04 from the trigger level on: 1, 4, 8 or 14 bytes, by bits 6 and 7 of `chip.fcr`. "
                 "The classic mistakes: more than the level in place of at least, and the bits taken for the number."),
            Hint("time-out", "Fewer bytes than the level are not forgotten: after four character times without "
                 "another, 0x0C. On our line that time is always over. The classic mistake leaves them until the crowd "
                 "is there: a typed letter then waits for thirteen more."),
            Hint("unseen", "Data comes before the empty transmitter, and bit 0 of `chip.ier` enables it."),
            Hint("shape", "With the FIFOs on, bits 6 and 7 of IIR are 1, whatever the rest says: 0xC4, 0xCC, 0xC2."),
            Hint("enabled", "The time-out is enabled by the same bit as data, bit 0 of `chip.ier`."),
            BY_IIR,
        ),
    ),
)  # fmt: skip
WIRE = (
    Check(
        "08.10", "the wire to the interrupt controller", 1,
        exercise="irq", driver="by_hand_or_guest", cases=lines, judge=both, guests=("thre-sender",),
        hints=hints(
            Hint("up", "The line is up while IIR names something, which is while its bit 0 is 0, and OUT2, bit 3 of "
                 "`chip.mcr`, is 1: here both hold. The classic mistake: 0x00, the modem, is a matter, too."),
            Hint("open", "OUT2, 0x08, is set and loopback, 0x10, is not: the gate is open, whatever the other bits of "
                 "`chip.mcr` are."),
            Hint("quiet", "Nothing that is enabled waits, so the line is down: `identify` knows."),
            Hint("no-cause", "\"None\" is bit 0 of IIR, and not the number 1: with the FIFOs on, IIR is 0xC1 then."),
            Hint("gate", "On a PC, OUT2 (bit 3 of `chip.mcr`) is a gate between the chip and the interrupt controller: "
                 "while it is 0 the line stays down. OUT1 is not OUT2."),
            Hint("loop", "In loopback the outputs are cut off, OUT2 with them: the line is down."),
            Hint("touched", "`irq` looks and changes nothing: use `identify`, not `read_uart`."),
        ),
    ),
)  # fmt: skip
