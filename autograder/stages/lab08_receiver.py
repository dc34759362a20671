"""Lab 08, the receiving side: sixteen bytes of patience, and the register that rules them."""

from __future__ import annotations

from autograder.model import Case, Check, Hint
from autograder.nonces import Nonces
from autograder.stages.lab08_common import BY_LSR, both, calls, guest, hints

# ---- 08.4 receive ----


def received(nonces: Nonces) -> list[Case]:
    new, some = nonces.range("new", 1, 256), list(nonces.bytes("some", 20))
    text = nonces.bytes("text", nonces.range("length", 18, 25))
    twice = [[0, [["feed", text[:3]]]], [1, [["feed", text]]], [2, [["feed", text[:2]]]]]
    option = 0x80_01_01  # on, still on, off: a driver that changes its mind

    def case(state: dict[str, object], fifo: str, errors: str, *bytes: int) -> Case:
        fields = {"fifo": fifo, "errors": errors}
        return calls("receive", state, [[byte] for byte in bytes], "none", fields=fields)

    parameters = {"nonce": nonces.u64("guest"), "count": 3, "option": option}
    return [
        case({"fcr": 1}, "append", "quiet", new),
        case({"fcr": 1, "fifo": some[:3]}, "append", "quiet", new),
        case({"fcr": 0xC1, "fifo": some[:15]}, "sixteen", "quiet", new),
        case({"fcr": 1, "fifo": some[:16]}, "lost", "overrun", new),
        case({"fcr": 1, "fifo": some[:16], "errors": 0x10}, "lost", "join", new, 0),
        case({}, "append", "quiet", new),
        case({"fifo": [new ^ 0xFF]}, "no-fifo", "overrun", new),
        guest("rx-reader", parameters, "guest", script=twice, more={"script": twice}),
    ]


# ---- 08.5 control_fifo ----


def controlled(nonces: Nonces) -> list[Case]:
    some = list(nonces.bytes("some", 5))

    def case(fcr: int, value: int, fifo: str, held: str, count: int = 5) -> Case:
        state = {"fcr": fcr, "fifo": some[:count]}
        fields = {"fifo": fifo, "fcr": held}
        return calls(
            "control_fifo", state, [[value]], "none", fields=fields, label=f"fcr={fcr:#04x}, {value:#04x} written"
        )

    text = nonces.bytes("text", 7)
    script = [[step, [["feed", text]]] for step in range(4)]
    parameters = {"nonce": nonces.u64("guest"), "count": 4, "option": 0x80_C3_41_01}
    level = nonces.choice("level", (0x40, 0x80, 0xC0))
    return [
        case(0x00, 0x01, "toggle", "enable", 1),
        case(0x01, level | 1, "keep", "trigger"),
        case(0x41, 0xC1, "keep", "trigger"),
        case(0x01, 0x03, "clear", "self"),
        case(0x81, 0x8B, "clear", "self"),
        case(0x01, 0xCD, "sender", "self"),
        case(0xC1, 0x00, "toggle", "off"),
        case(0xC1, 0xC0, "toggle", "off"),
        case(0x00, 0xC6, "unprogrammed", "off", 1),
        guest("rx-reader", parameters, "guest", script=script, more={"script": script}),
    ]


CHECKS = (
    Check(
        "08.4", "sixteen bytes, and what comes after", 1,
        exercise="receive", driver="by_hand_or_guest", cases=received, judge=both, guests=("rx-reader",),
        hints=hints(
            Hint("append", "A byte that finds room goes to the end of `chip.fifo`, which is a list: `append`.",
                 when="TypeError"),
            Hint("sixteen", "The FIFO holds 16 bytes: with 15 in it, there is room for one more. The trigger level has "
                 "nothing to do with it."),
            Hint("lost", "A full FIFO keeps what it has: the *new* byte is lost. The classic mistake pushes out the "
                 "oldest."),
            Hint("overrun", "A byte was lost, and the driver must hear of it: bit 1 of `chip.errors` (OE, 0x02)."),
            Hint("join", "An overrun takes no other error away: `chip.errors |= 0x02`. And the byte 0x00 is a byte "
                 "like any other."),
            Hint("quiet", "No byte was lost, so there is no error to tell."),
            Hint("no-fifo", "With the FIFOs off (bit 0 of `chip.fcr` is 0) there is RBR alone, room for one byte. A "
                 "second one overwrites it: the *old* byte is lost."),
            BY_LSR,
        ),
    ),
    Check(
        "08.5", "what a write to FCR does", 1,
        exercise="control_fifo", driver="by_hand_or_guest", cases=controlled, judge=both, guests=("rx-reader",),
        hints=hints(
            Hint("toggle", "Bit 0 switches the FIFOs; when it *changes*, they are emptied, whichever way."),
            Hint("enable", "`chip.fcr` keeps bit 0: the FIFOs are on."),
            Hint("keep", "The FIFOs were on and stay on, and bit 1 is 0: what was received stays. The classic mistake "
                 "empties them at every write, and a driver that sets another trigger level loses what was typed."),
            Hint("trigger", "Bits 6 and 7 are the trigger level, and `chip.fcr` keeps them, beside bit 0."),
            Hint("clear", "Bit 1 empties the receiver."),
            Hint("self", "Bit 1 clears itself, and bits 2 to 5 are nothing that we need: `value & 0xC1`."),
            Hint("sender", "Bit 2 empties the *sender's* FIFO: what was received stays."),
            Hint("off", "Without bit 0 none of the other bits is programmed: `chip.fcr` is 0."),
            Hint("unprogrammed", "The FIFOs were off and stay off: then bit 1 counts for nothing, and the byte in RBR "
                 "stays."),
            BY_LSR,
        ),
    ),
)  # fmt: skip
