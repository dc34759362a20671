"""Lab 08, the registers of the UART: what the modem says, what a read takes back, what a write does."""

from __future__ import annotations

from autograder.model import Case, Check, Hint
from autograder.nonces import Nonces
from autograder.stages.lab08_common import BY_IIR, both, calls, guest, hints
from autograder.stages.lab08_interrupts import ALL
from autograder.stages.lab08_models import letters

# ---- 08.7 modem_status ----


def modem(nonces: Nonces) -> list[Case]:
    deltas = nonces.range("deltas", 1, 16)
    cases = [calls("modem_status", {"mcr": 0x0B}, [[]], "terminal"), calls("modem_status", {}, [[]], "terminal")]
    for mcr, hint in ((0x11, "dtr"), (0x12, "rts"), (0x14, "out"), (0x18, "out"), (0x1A, "rts"), (0x10, "mirror")):
        cases.append(calls("modem_status", {"mcr": mcr}, [[]], hint, mistakes={"mirror": 0xB0}))
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
        calls("read_uart", {"fifo": [some[0]], "errors": 0x02}, [[0], [5]], "keeps"),
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


CHECKS = (
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
            Hint("keeps", "Data, errors and deltas are taken back by reading RBR, LSR and MSR, each by its own, and "
                 "not by reading IIR."),
            BY_IIR,
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
)  # fmt: skip
