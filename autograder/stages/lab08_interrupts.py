"""Lab 08, the interrupts of the UART: which source is named, what takes it back, and when the line goes up."""

from __future__ import annotations

from typing import Any

from autograder.model import Case, Check, Hint
from autograder.nonces import Nonces
from autograder.stages.lab08_common import both, calls, guest, hints
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
            made = calls("identify", state, [[]], hint, label=f"fcr={fcr:#04x}, {length} bytes received")
            right = made.expected["values"][0]
            made.expected["mistakes"] = {"shape": right & 0x3F} | ({"time-out": 0xC2} if right != 0xC2 else {})
            cases.append(made)
    cases.append(calls("identify", {"ier": 0x02, "fcr": 0xC1, "fifo": [1, 2], "thre": True}, [[]], "enabled"))
    text = nonces.bytes("text", 16)
    script = [[0, [["feed", text[:14]]]], [1, [["feed", text[:13]]]], [2, [["feed", text]]]]
    parameters = {"nonce": nonces.u64("guest"), "count": 3, "value": 0x01, "option": 0x08C1}
    return [*cases, guest("iir-logger", parameters, "guest", script=script, more={"script": script})]


# ---- 08.7 modem_status ----


def modem(nonces: Nonces) -> list[Case]:
    deltas = nonces.range("deltas", 1, 16)
    cases = [calls("modem_status", {"mcr": 0x0B}, [[]], "terminal"), calls("modem_status", {}, [[]], "terminal")]
    for mcr, hint in ((0x11, "dtr"), (0x12, "rts"), (0x14, "out"), (0x18, "out"), (0x1A, "rts"), (0x10, "mirror")):
        cases.append(calls("modem_status", {"mcr": mcr}, [[]], hint))
    cases.append(calls("modem_status", {"mcr": 0x0B, "deltas": deltas}, [[], []], "deltas", fields={"deltas": "again"},
                       mistakes={"again": 0xB0 | deltas}))  # fmt: skip
    cases.append(calls("modem_status", {"mcr": 0x1F, "deltas": deltas}, [[]], "deltas", fields={"mcr": "looks"}))
    signs = [("mirror", "no UART")]
    return [*cases, guest("uart-detective", {"nonce": nonces.u64("guest")}, "mirror", mistakes=signs)]


# ---- 08.8 read_uart ----


def read(nonces: Nonces) -> list[Case]:
    some, divisor = list(nonces.bytes("some", 5)), nonces.range("divisor", 0x0100, 0xFFFF)
    ier, scr, lcr, mcr = (nonces.range(name, 1, 16) for name in ("ier", "scr", "lcr", "mcr"))
    state = {"ier": ier, "scr": scr ^ 0x5A, "lcr": lcr, "mcr": mcr, "divisor": divisor}
    waiting = {"ier": 0x03, "fcr": 1, "fifo": some, "thre": True}
    text = nonces.bytes("text", 6)
    script = [[0, [["feed", text]]], [1, [["errors", 0x02]]], [2, [["deltas", 0x02], ["feed", text[:2]]]]]
    parameters = {"nonce": nonces.u64("guest"), "count": 3, "value": 0x0F, "option": 0x0881}
    return [
        calls("read_uart", {"fifo": some, "fcr": 1}, [[0], [0], [0]], "rbr", fields={"fifo": "rbr"}),
        calls("read_uart", {"fifo": [some[0]]}, [[0], [0]], "empty"),
        calls("read_uart", state, [[1], [3], [4], [7]], "plain"),
        calls("read_uart", {**state, "lcr": 0x83}, [[0], [1], [0]], "dlab", fields={"divisor": "dlab"}),
        calls("read_uart", {**state, "lcr": 0x83}, [[3], [7]], "plain"),
        calls("read_uart", {"fifo": [some[0]], "errors": 0x02}, [[5], [5]], "status", fields={"errors": "status"}),
        calls("read_uart", {"mcr": 0x0B, "deltas": 3}, [[6], [6]], "modem"),
        calls("read_uart", {"ier": 0x02, "thre": True}, [[2], [2]], "taken", fields={"thre": "taken"}),
        calls("read_uart", waiting, [[2]], "named", fields={"thre": "named", "fifo": "keeps"}),
        calls("read_uart", {"ier": 0x0F, **ALL}, [[2], [2]], "keeps", fields={"errors": "keeps", "thre": "named"}),
        calls("read_uart", {"ier": 0x02, "fcr": 1, "thre": True}, [[2], [2]], "with-fifos", fields={"thre": "taken"}),
        guest("iir-logger", parameters, "guest", script=script, more={"script": script}),
        guest("baud-setter", {"nonce": nonces.u64("baud"), "count": 3}, "dlab"),
    ]


# ---- 08.9 write_uart ----


def written(nonces: Nonces) -> list[Case]:
    byte, other = nonces.range("byte", 0, 256), nonces.range("other", 1, 16)
    sent = {"sent": "send", "fifo": "send"}
    loop = {"ier": 2, "mcr": 0x12, "fcr": 1}
    nonce, count = nonces.u64("guest"), nonces.range("count", 5, 20)
    sender = {"nonce": nonce, "count": count}
    stuck = [("arm", "asleep")]
    return [
        calls("write_uart", {"ier": 2}, [[0, byte], [0, other]], "returns", fields={**sent, "thre": "emptied"}),
        calls("write_uart", loop, [[0, byte]], "returns", fields={"sent": "loop", "fifo": "loop", "thre": "emptied"}),
        calls("write_uart", {}, [[1, 0x02]], "returns", fields={"ier": "plain", "thre": "arm"}),
        calls("write_uart", {"ier": 0x02}, [[1, 0x02]], "returns", fields={"thre": "new"}),
        calls("write_uart", {"ier": 0x02}, [[1, 0x03]], "returns", fields={"ier": "plain", "thre": "new"}),
        calls("write_uart", {}, [[1, 0x0D]], "returns", fields={"ier": "plain", "thre": "other"}),
        calls("write_uart", {}, [[1, 0xF0 | other]], "returns", fields={"ier": "nibble"}),
        calls("write_uart", {"fifo": [byte]}, [[2, 0xC1]], "returns", fields={"fcr": "fcr", "fifo": "fcr"}),
        calls("write_uart", {}, [[3, 0x80 | other], [0, byte], [1, other]], "returns",
              fields={"lcr": "plain", "divisor": "dlab", "sent": "dlab", "ier": "dlab"}),
        calls("write_uart", {"divisor": 0xABCD, "lcr": 0x83}, [[0, byte]], "returns", fields={"divisor": "dlab"}),
        calls("write_uart", {}, [[7, byte], [4, 0xE0 | other]], "returns", fields={"scr": "plain", "mcr": "mcr"}),
        calls("write_uart", {"errors": 2, "deltas": 1}, [[5, 0xFF], [6, 0xFF]], "returns",
              fields={"errors": "read-only", "deltas": "read-only"}),
        guest("thre-sender", sender, "arm", screen="*" + letters(nonce, count), mistakes=stuck),
        guest("uart-detective", {"nonce": nonces.u64("who")}, "loop"),
    ]  # fmt: skip


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
        case("up", ier=1, mcr=0x0B, fifo=[byte]),
        case("quiet", ier=1, mcr=0x0B, thre=True),
        case("up", ier=0x0F, mcr=0x08, deltas=1),
        case("gate", ier=1, mcr=0x03, fifo=[byte]),
        case("gate", ier=1, mcr=0x07, fifo=[byte]),
        case("loop", ier=1, mcr=0x1B, fifo=[byte]),
        case("up", ier=4, mcr=0x08, errors=2, fcr=1),
        case("up", ier=2, mcr=0x09, thre=True),
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
            Hint("guest", "Under a driver it differs: look at the line where the two part. Each number is an IIR, and "
                 "behind = what was read to serve it."),
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
            Hint("shape", "With the FIFOs on, bits 6 and 7 of IIR are 1, whatever the rest says: 0xC4, 0xCC, 0xC2."),
            Hint("enabled", "The time-out is enabled by the same bit as data, bit 0 of `chip.ier`."),
            Hint("guest", "Under a driver it differs: look at the line where the two part. Each number is an IIR, and "
                 "behind = what was read to serve it."),
        ),
    ),
    Check(
        "08.7", "the modem's lines, real ones and mirrored ones", 1,
        exercise="modem_status", driver="by_hand_or_guest", cases=modem, judge=both, guests=("uart-detective",),
        hints=hints(
            Hint("terminal", "Without loopback the far end is a terminal that is there and ready: CTS, DSR and DCD, "
                 "0xB0, whatever the guest's own outputs are."),
            Hint("mirror", "In loopback (bit 4 of `chip.mcr`) the four inputs are the four outputs: DTR (bit 0) is "
                 "seen as DSR (bit 5), RTS (1) as CTS (4), OUT1 (2) as RI (6), OUT2 (3) as DCD (7). A driver that does "
                 "not see them believes that there is no UART.", when="IndexError"),
            Hint("dtr", "DTR, bit 0 of MCR, comes back as DSR, bit 5: the two lowest bits cross. The classic mistake "
                 "shifts all four by 4."),
            Hint("rts", "RTS, bit 1 of MCR, comes back as CTS, bit 4: the two lowest bits cross. The classic mistake "
                 "shifts all four by 4."),
            Hint("out", "OUT1, bit 2, comes back as RI, bit 6, and OUT2, bit 3, as DCD, bit 7."),
            Hint("deltas", "Bits 0 to 3 of MSR are `chip.deltas`: what has changed since MSR was last read."),
            Hint("again", "Reading MSR clears the deltas: they are 0 afterwards."),
            Hint("looks", "A read of MSR changes no output."),
        ),
    ),
    Check(
        "08.8", "reading takes back, each register its own", 1,
        exercise="read_uart", driver="by_hand_or_guest", cases=read, judge=both, guests=("iir-logger", "baud-setter"),
        hints=hints(
            Hint("rbr", "RBR gives the oldest byte of `chip.fifo`, and takes it out: `chip.fifo.pop(0)`. The classic "
                 "mistake pops the newest."),
            Hint("empty", "Where nothing was received RBR gives 0. An exception would kill the machine for a careless "
                 "read.", when="pop from empty"),
            Hint("plain", "IER, LCR, MCR and SCR give back what is in `chip.ier`, `.lcr`, `.mcr`, `.scr`.",
                 when="AttributeError"),
            Hint("dlab", "With DLAB set, offset 0 is the low byte of `chip.divisor` and offset 1 the high byte; no "
                 "byte may be taken from the FIFO."),
            Hint("status", "LSR is `line_status(chip)`, asked once at each read."),
            Hint("modem", "MSR is `modem_status(chip)`, asked once at each read."),
            Hint("taken", "A read of IIR that names the empty transmitter takes that interrupt back: `chip.thre = "
                 "False`. The classic mistake leaves it, and the guest hears of an empty transmitter for ever."),
            Hint("with-fifos", "With the FIFOs on, IIR is 0xC2 for the empty transmitter: compare its low four bits."),
            Hint("named", "A read of IIR takes the empty transmitter back only if it *names* it. The classic mistake "
                 "clears it at every read: while data comes in, the sender is never called again."),
            Hint("keeps", "Data, errors and deltas are taken back by reading RBR, LSR and MSR, not by reading IIR."),
            Hint("guest", "Under a driver it differs: look at the line where the two part. Each number is an IIR, and "
                 "behind = what was read to serve it."),
        ),
    ),
    Check(
        "08.9", "writing sends, sets and arms", 1,
        exercise="write_uart", driver="by_hand_or_guest", cases=written, judge=both,
        guests=("thre-sender", "uart-detective"),
        hints=hints(
            Hint("send", "A byte written to THR goes to `chip.sent`, and to nothing else: `chip.sent.append(value)`.",
                 when="concat|TypeError"),
            Hint("emptied", "The byte is gone at once, so the transmitter has *become* empty: `chip.thre = True`. In "
                 "loopback, too."),
            Hint("loop", "In loopback (bit 4 of `chip.mcr`) the byte comes back to our own receiver, by `receive`, and "
                 "nothing goes out on the line."),
            Hint("arm", "Enabling the interrupt of the transmitter (bit 1 of IER, from 0 to 1) while it is empty "
                 "raises it at once. Drivers send their first byte in that interrupt. The classic mistake waits for a "
                 "byte to be sent first, and the guest waits, too."),
            Hint("new", "The bit was set before: writing it again raises nothing. Only from 0 to 1."),
            Hint("other", "Only bit 1 of IER, the transmitter's, arms `chip.thre`."),
            Hint("nibble", "IER has four bits; the upper four stay 0. A driver that probes looks for that."),
            Hint("fcr", "A write to FCR is `control_fifo(chip, value)`."),
            Hint("dlab", "With DLAB set, offset 0 writes the low byte of `chip.divisor` and offset 1 the high byte. "
                 "The other byte stays, and nothing is sent."),
            Hint("plain", "IER, LCR and SCR keep what is written.", when="AttributeError"),
            Hint("mcr", "MCR has five bits: `value & 0x1F`."),
            Hint("read-only", "Writes to LSR and MSR change nothing."),
            Hint("returns", "A write returns nothing."),
        ),
    ),
    Check(
        "08.10", "the wire to the interrupt controller", 1,
        exercise="irq", driver="by_hand_or_guest", cases=lines, judge=both, guests=("thre-sender",),
        hints=hints(
            Hint("up", "The line is up while IIR names something, which is while its bit 0 is 0. The classic mistake: "
                 "0x00, the modem, is a matter, too."),
            Hint("quiet", "Nothing that is enabled waits, so the line is down: `identify` knows."),
            Hint("gate", "On a PC, OUT2 (bit 3 of `chip.mcr`) is a gate between the chip and the interrupt controller: "
                 "while it is 0 the line stays down. OUT1 is not OUT2."),
            Hint("loop", "In loopback the outputs are cut off, OUT2 with them: the line is down."),
            Hint("touched", "`irq` looks and changes nothing: use `identify`, not `read_uart`."),
        ),
    ),
)  # fmt: skip
