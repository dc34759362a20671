# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lab 08 · A console, and power
#
# A machine needs a voice, a clock and a switch. You build all three from their data sheets: the serial port that every
# kernel speaks to first, the clock with the battery, four ways to stop. At the end you type to a guest, and it answers.
#
# ![Your PC: a terminal, the UART, the clock, the keyboard controller, the switches](img/lab08/pc.svg)
#
# **Predict** first, in each section: a wrong answer costs nothing and teaches most.

# %% [markdown]
# ## 1 · Eight ports, twelve registers
#
# The 16550 has eight ports, 0x3F8 to 0x3FF, and twelve registers. Some ports mean one thing when read and another when
# written. And bit 7 of LCR, **DLAB**, puts two more in the place of others.
#
# **Predict.** A guest writes to port 0x3F9. That is:
#
# 1. IER, the interrupt enables
# 2. DLM, half of the baud rate
# 3. the one or the other
#
# *Source: PC16550D datasheet (National Semiconductor), "Register Addresses".*

# %%
from minivmm.lab import *
from minivmm.lab_console import *

def mine(*names):  # these parts are yours, and the library has the others
    return {name: globals()[name] for name in names}

predict("8.a", 1)  # put your answer in place of the 1

# %% [markdown]
# ### Task 08.1
# ![The eight offsets: what is read, what is written, and what DLAB changes](img/lab08/registers.svg)
#
# Give the register's name, in capitals. In order they are RBR (THR when written), IER, IIR (FCR when written), LCR, MCR,
# LSR, MSR, SCR. With DLAB set, the first two are DLL and DLM, in both directions.
#
# *Source: PC16550D datasheet, "Register Addresses".*
#
# <details><summary>Hint 1: a nudge</summary>A list of eight names, and two exceptions.</details>
# <details><summary>Hint 2: the idea</summary>Begin with the names for reading. Where the guest writes, two of them are
# others; where DLAB is set, two more. (PC16550D, "Register Addresses")</details>
# <details><summary>Hint 3: nearly there</summary><code>names = ["RBR", "IER", …]</code>; <code>if writing: names[0],
# names[2] = "THR", "FCR"</code>; <code>if dlab: names[:2] = …</code>. The classic mistake looks at DLAB only for
# writes.</details>


# %% exercise="08.1"
def register(offset: int, dlab: bool, writing: bool) -> str:
    """The name of the UART's register at `offset`, 0 to 7, in capitals: "RBR", "THR", …"""
    ### BEGIN SOLUTION
    names = ["RBR", "IER", "IIR", "LCR", "MCR", "LSR", "MSR", "SCR"]
    if writing:
        names[0], names[2] = "THR", "FCR"
    if dlab:
        names[:2] = "DLL", "DLM"
    return names[offset]
    ### END SOLUTION


# %% check="08.1"
check("08.1", register)

# %%
with trying():
    ways = [(False, False), (False, True), (True, False), (True, True)]
    rows = [(hex(0x3F8 + at), *(register(at, *way) for way in ways)) for at in range(8)]
    show(table(rows, ("port", "read", "written", "read, DLAB", "written, DLAB")))
    chip = Serial(lcr=0x83)  # Break it: a driver that forgets to clear DLAB, and says hello
    for byte in b"Hello": Parts().write_uart(chip, 0, byte)
    print("sent:", bytes(chip.sent), "  divisor:", hex(chip.divisor))
reveal("8.a", 3, "for DLAB decides. The letters went into the divisor: the line is silent, and nothing is wrong.")

# %% [markdown]
# ## 2 · How fast, how long
#
# 1.8432 MHz, divided by 16 and by the **divisor**, is the bit rate. A character has a start bit, five to eight data
# bits, perhaps a parity bit, and stop bits. People write "9600 8N1".
#
# **Predict.** One letter at 9600 8N1 takes about:
#
# 1. 0.1 ms
# 2. 1 ms
# 3. 10 ms
#
# *Source: PC16550D datasheet, "Line Control Register", "Programmable Baud Generator".*

# %%
predict("8.b", 1)

# %% [markdown]
# ### Task 08.2
# ![The bits of a character on the line, and the bits of LCR that decide](img/lab08/line.svg)
#
# LCR bits 0–1: data bits less five. Bit 2: two stop bits (1.5 with five data bits). Bit 3: parity, else N; then bit 4
# is 1 for even (E), 0 for odd (O). With bit 5 it is stuck: at 1, "mark" (M), where bit 4 is 0; else at 0, "space" (S).
#
# *Source: PC16550D datasheet, "Line Control Register".*
#
# <details><summary>Hint 1: a nudge</summary>Three pieces of text, one after the other: bits, parity, stop.</details>
# <details><summary>Hint 2: the idea</summary>Bits 3 to 5 together are a number from 0 to 7, which can choose a letter
# out of a string of eight. (PC16550D, LCR bits 3, 4, 5)</details>
# <details><summary>Hint 3: nearly there</summary><code>"NONENMNS"[lcr &gt;&gt; 3 &amp; 7]</code>, with bit 3 the
# lowest. The rate is <code>115200 // divisor</code>. The classic mistake takes "even" for bit 4 = 0.</details>


# %% exercise="08.2"
def line_format(divisor: int, lcr: int) -> tuple:
    """(bits per second, rounded down, and the format): (9600, "8N1"), (50, "5E1.5"). `divisor` is 1 at least."""
    ### BEGIN SOLUTION
    bits = 5 + (lcr & 3)
    parity = "NONENMNS"[lcr >> 3 & 7]
    stop = "1" if not lcr & 4 else "1.5" if bits == 5 else "2"
    return 115200 // divisor, f"{bits}{parity}{stop}"
    ### END SOLUTION


# %% check="08.2"
check("08.2", line_format)

# %%
with trying():
    board = Board({}, "baud-setter", nonce=7)  # a driver that sets the line four times: IER, LCR, divisor, SCR
    board.go(), print(board.console)
    print("its last:", *line_format(board.uart.divisor, board.uart.lcr))
    for divisor in (1, 12, 0x0C00):  # Break it: the last has DLL and DLM exchanged
        rate, text = line_format(divisor, 3)
        print(f"{rate:6} {text}: a boot log of 20 000 letters takes {200_000 / rate:7.0f} s")
reveal("8.b", 2, "for it has ten bits. In your VM it takes no time at all: nothing depends on the divisor.")

# %% [markdown]
# ## 3 · Ready when you are
#
# Before each letter a driver asks LSR whether the transmitter's holding register is empty, **THRE**. On our line no
# time passes, so it always is; so is the shift register behind it, **TEMT**.
#
# **Predict.** A VMM's LSR always reads 0. A kernel that prints:
#
# 1. waits for ever
# 2. sends at once
# 3. waits a while for each letter, then sends it all the same
#
# *Source: PC16550D datasheet, "Line Status Register"; Linux, drivers/tty/serial/8250.*

# %%
from inspect import getsource

print(getsource(Serial))  # your chip: registers, and no behaviour
predict("8.c", 1)

# %% [markdown]
# ### Task 08.3
# ![The bits of LSR](img/lab08/lsr.svg)
#
# `chip` is a `Serial`, as printed above. Complete the read of LSR: THRE and TEMT (0x60) always; **DR**, bit 0, while a
# received byte waits in `chip.fifo`; and `chip.errors`, which the read clears.
#
# *Source: PC16550D datasheet, "Line Status Register".*
#
# <details><summary>Hint 1: a nudge</summary>Three things are joined. What must happen before you return?</details>
# <details><summary>Hint 2: the idea</summary>A read has a consequence here: errors are told once. So the answer must be
# made first, and then the errors cleared. (PC16550D, "Line Status Register", bits 1 to 4)</details>
# <details><summary>Hint 3: nearly there</summary><code>status = 0x60 | chip.errors | bool(chip.fifo)</code>. The
# classic mistake is an LSR of 0 before the first byte comes.</details>


# %% exercise="08.3"
def line_status(chip) -> int:
    """A read of LSR."""
    ### BEGIN SOLUTION
    status = 0x60 | chip.errors | bool(chip.fifo)
    chip.errors = 0
    return status
    ### END SOLUTION


# %% check="08.3"
check("08.3", line_status)

# %%
def console_of(lsr):  # a console driver that asks 100 times at most, then sends
    board = Board({"line_status": lsr}, "lsr-waiter", nonce=7, count=12)
    board.go()
    asked = int(board.console[:8], 16)
    return board.screen, asked, f"{asked / 1200:.0%} of its patience"

with trying():
    rows = [("yours", *console_of(line_status)), ("always 0", *console_of(lambda chip: 0))]  # Break it
    show(table(rows, ("LSR", "sent", "LSR was asked", "")))
reveal("8.c", 3, "for its patience ends. Linux asks 10 000 times, 1 µs apart: 10 ms a letter, 200 s for that boot log.")

# %% [markdown]
# ## 4 · Sixteen bytes of patience
#
# The first chips had room for one received byte. The 16550 has a **FIFO** of sixteen, if the driver switches it on.
# What finds no room is lost: an **overrun**.
#
# **Predict.** Sixteen bytes wait, and a seventeenth comes. Lost is:
#
# 1. the oldest
# 2. the new one
# 3. nothing: the line waits
#
# *Source: PC16550D datasheet, "Line Status Register", bit 1; "FIFO Control Register".*

# %%
import re

predict("8.d", 1)

# %% [markdown]
# ### Task 08.4
# ![With a FIFO the new byte is lost, without one the old byte](img/lab08/overrun.svg)
#
# A byte arrives. With FIFOs (bit 0 of `chip.fcr`) `chip.fifo` has room for 16, and if full it keeps what it has.
# Without them it stands for RBR: room for one, and a new byte **overwrites** it. Either loss sets **OE**, bit 1 of
# `chip.errors`.
#
# *Source: PC16550D datasheet, "Line Status Register", bit 1.*
#
# <details><summary>Hint 1: a nudge</summary>How much room is there? Is there some left? If not, which byte
# goes?</details>
# <details><summary>Hint 2: the idea</summary><code>chip.fifo</code> is a list, also where it stands for RBR alone. An
# overrun must not wipe out other errors: <code>|=</code>. (PC16550D, LSR bit 1)</details>
# <details><summary>Hint 3: nearly there</summary><code>room = 16 if chip.fcr &amp; 1 else 1</code>; if there is room,
# append and return; else set OE, and without FIFOs <code>chip.fifo[0] = byte</code>. The classic mistake drops the
# oldest byte of a full FIFO.</details>


# %% exercise="08.4"
def receive(chip, byte: int) -> None:
    """A byte comes in over the line."""
    ### BEGIN SOLUTION
    room = 16 if chip.fcr & 1 else 1
    if len(chip.fifo) < room:
        chip.fifo.append(byte)
        return
    chip.errors |= 0x02
    if room == 1:
        chip.fifo[0] = byte
    ### END SOLUTION


# %% check="08.4"
check("08.4", receive)

# %%
def listen(fcr, text, parts=None):  # a guest that reads LSR and RBR until LSR says that nothing is left
    script = [(1, [("feed", text)])]
    board = Board(parts or mine("receive"), "rx-reader", nonce=7, option=fcr, script=script)
    board.go()
    pairs = re.findall(r"(..)\.(..)", board.console)
    return "".join(chr(int(byte, 16)) for _, byte in pairs), " ".join(status for status, _ in pairs)

with trying():
    rows = [("FIFOs on", *listen(0x01, b"Twenty bytes come in"))]
    rows.append(("FIFOs off", *listen(0x80, b"Twenty bytes come in")))  # Break it: a careless driver
    show(table(rows, ("", "received", "LSR at each byte")))
reveal("8.d", 2, "for the FIFO keeps what it has. The first LSR is 63: its bit 1, OE, tells of the loss, once.")

# %% [markdown]
# ## 5 · The switch of the FIFOs
#
# FCR can't be read back. Bit 0 switches both FIFOs; a **change** empties them. Bit 1 empties the receiver and clears
# itself. Bits 6–7 are the trigger level, of which more below. Without bit 0, nothing else is programmed.
#
# **Predict.** Five bytes wait; the FIFOs are on. A driver writes 0xC1 to FCR, for another trigger level:
#
# 1. the five are lost
# 2. the five stay
#
# *Source: PC16550D datasheet, "FIFO Control Register".*

# %%
predict("8.e", 1)

# %% [markdown]
# ### Task 08.5
# Complete the write to FCR. `chip.fcr` keeps bits 0, 6 and 7, and is 0 while the FIFOs are off.
#
# *Source: PC16550D datasheet, "FIFO Control Register".*
#
# <details><summary>Hint 1: a nudge</summary>When is <code>chip.fifo</code> emptied? There are two reasons.</details>
# <details><summary>Hint 2: the idea</summary>Bit 0 changes if <code>(value ^ chip.fcr) &amp; 1</code>. Bit 1 counts
# only together with bit 0. (PC16550D, FCR bits 0 and 1)</details>
# <details><summary>Hint 3: nearly there</summary><code>if (value ^ chip.fcr) &amp; 1 or value &amp; 3 == 3</code>:
# empty. Then <code>chip.fcr = value &amp; 0xC1 if value &amp; 1 else 0</code>. The classic mistake empties at every
# write.</details>


# %% exercise="08.5"
def control_fifo(chip, value: int) -> None:
    """A write to FCR."""
    ### BEGIN SOLUTION
    if (value ^ chip.fcr) & 1 or value & 3 == 3:
        chip.fifo.clear()
    chip.fcr = value & 0xC1 if value & 1 else 0
    ### END SOLUTION


# %% check="08.5"
check("08.5", control_fifo)

# %%
def typed_early(control):  # the FIFOs are on, somebody types, and the driver sets another trigger level
    return listen(0x4101, b"hello", {"control_fifo": control})

def careless(chip, value):  # Break it: every write empties
    chip.fifo.clear()
    chip.fcr = value & 0xC1

with trying():
    rows = [("yours", *typed_early(control_fifo)), ("careless", *typed_early(careless))]
    show(table(rows, ("FCR", "received", "LSR at each byte")))
reveal("8.e", 2, "for bit 0 has not changed, and bit 1 is 0.")

# %% [markdown]
# ## 6 · Who wants what
#
# Four things can cause an interrupt, each enabled by a bit of **IER**. **IIR** names the most urgent, and no other. A
# driver asks, serves, and asks again until bit 0 says *none*.
#
# **Predict.** All four have happened and are enabled. IIR names:
#
# 1. received data
# 2. the line status: an error
# 3. all four
#
# *Source: PC16550D datasheet, "Interrupt Identification Register".*

# %%
predict("8.f", 1)

# %% [markdown]
# ### Task 08.6
# ![Five answers of IIR, the most urgent first, and what takes each back](img/lab08/iir.svg)
#
# In this order: 0x06, `chip.errors` (IER bit 2); 0x04, `chip.fifo` (bit 0) from the trigger level on (1, 4, 8 or 14),
# below it 0x0C, the time-out, for on our line the wait is always over; 0x02, `chip.thre` (bit 1); 0x00, `chip.deltas`
# (bit 3); 0x01, none. With the FIFOs on, bits 6–7 are set. It only looks.
#
# *Source: PC16550D datasheet, "Interrupt Control Functions"; "FIFO Interrupt Mode Operation".*
#
# <details><summary>Hint 1: a nudge</summary>Five questions in the right order. Each has two halves: enabled, and
# happened.</details>
# <details><summary>Hint 2: the idea</summary>The level is <code>(1, 4, 8, 14)[chip.fcr &gt;&gt; 6]</code>, and 1
# without FIFOs, which comes out by itself, for then <code>chip.fcr</code> is 0. (PC16550D, FCR bits 6–7)</details>
# <details><summary>Hint 3: nearly there</summary><code>if chip.ier &amp; 4 and chip.errors: return fifos | 0x06</code>,
# and so on; the last line is <code>return fifos | 0x01</code>. The classic mistake waits for the level and forgets the
# rest: a typed letter is then never read.</details>


# %% exercise="08.6"
def identify(chip) -> int:
    """What IIR shows: the most urgent matter that is enabled, or 0x01 for none; bits 6-7 with FIFOs."""
    ### BEGIN SOLUTION
    fifos = 0xC0 if chip.fcr & 1 else 0
    if chip.ier & 4 and chip.errors:
        return fifos | 0x06
    if chip.ier & 1 and chip.fifo:
        return fifos | (0x04 if len(chip.fifo) >= (1, 4, 8, 14)[chip.fcr >> 6] else 0x0C)
    if chip.ier & 2 and chip.thre:
        return fifos | 0x02
    return fifos | (0x00 if chip.ier & 8 and chip.deltas else 0x01)
    ### END SOLUTION


# %% check="08.6"
check("08.6", identify)

# %%
def asks(parts, **how):  # each line: the letter that is sent, then IIR=what was read to serve it, …
    script = [(0, [("feed", b"ABCDE")]), (1, [("errors", 2), ("deltas", 1), ("feed", b"F")])]
    board = Board(parts, "iir-logger", nonce=7, script=script, **{"value": 15, "option": 0x841, **how})
    board.go()
    return board.console

with trying():
    print(asks(mine("identify")))
    print(asks({"identify": lambda chip: 0x02}, count=1))  # Break it: an IIR that never says "none"
reveal("8.f", 2, "for it is about the data that comes next. And an IIR without end hangs a driver in its handler.")

# %% [markdown]
# ## 7 · Talking to yourself
#
# **MSR** has four lines that come from a modem; ours is a terminal that is there and ready. In **loopback** (bit 4 of
# MCR) the chip hears its own outputs instead. Drivers test it by that.
#
# **Predict.** Your MSR ignores loopback. Linux then:
#
# 1. works
# 2. finds no UART at this port
# 3. prints a warning
#
# *Source: PC16550D datasheet, "Modem Control Register", "Modem Status Register"; Linux, 8250_port.c, autoconfig.*

# %%
predict("8.g", 1)

# %% [markdown]
# ### Task 08.7
# ![In loopback DTR, RTS, OUT1, OUT2 come back as DSR, CTS, RI, DCD](img/lab08/loopback.svg)
#
# Complete the read of MSR. Without loopback: CTS, DSR and DCD, 0xB0. In loopback: the four outputs, MCR bits 0 to 3
# (DTR, RTS, OUT1, OUT2), as bits 5, 4, 6, 7. The low four bits are `chip.deltas`, which the read clears.
#
# *Source: PC16550D datasheet, "Modem Control Register", bit 4.*
#
# <details><summary>Hint 1: a nudge</summary>Which two of the four cross?</details>
# <details><summary>Hint 2: the idea</summary>Each bit is cut out and shifted by itself: <code>(mcr &amp; 1) &lt;&lt;
# 5</code>. (PC16550D, MCR bit 4: DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD)</details>
# <details><summary>Hint 3: nearly there</summary><code>(mcr &amp; 1) &lt;&lt; 5 | (mcr &amp; 2) &lt;&lt; 3 | (mcr &amp;
# 0xC) &lt;&lt; 4</code>. The classic mistake shifts all four by 4.</details>


# %% exercise="08.7"
def modem_status(chip) -> int:
    """A read of MSR."""
    ### BEGIN SOLUTION
    mcr = chip.mcr
    inputs = (mcr & 1) << 5 | (mcr & 2) << 3 | (mcr & 0xC) << 4 if mcr & 0x10 else 0xB0
    deltas, chip.deltas = chip.deltas, 0
    return inputs | deltas
    ### END SOLUTION


# %% check="08.7"
check("08.7", modem_status)

# %%
def detective(**parts):  # IER, IER, MSR in loopback, SCR, IIR, bytes that came back, and the verdict
    board = Board(parts, "uart-detective", nonce=7)
    board.go()
    return board.console.strip()

no_fifo = lambda chip, value: None
with trying():
    rows = [("yours", detective(modem_status=modem_status)), ("no FIFOs", detective(control_fifo=no_fifo))]
    rows.append(("no loopback", detective(modem_status=lambda chip: 0xB0)))  # Break it
    show(table(rows, ("the chip", "what a driver sees of it, and thinks that it is")))
reveal("8.g", 2, "for what does not hear itself can't be a UART, it thinks, and the console is gone.")

# %% [markdown]
# ## 8 · Reading takes back
#
# Every cause is taken back by reading *its* register: an error by LSR, data by RBR, the modem by MSR. The empty
# transmitter has none, so reading IIR does it, if IIR has named it.
#
# **Predict.** Data waits and the transmitter is empty. A driver reads IIR (0x04), then RBR, then IIR. It gets:
#
# 1. 0x01, none
# 2. 0x02, the transmitter
#
# *Source: PC16550D datasheet, "Interrupt Control Functions": the column "Interrupt Reset Control".*

# %%
predict("8.h", 1)

# %% [markdown]
# ### Task 08.8
# Complete the read of any register. RBR takes the oldest byte out (0 if there is none). You have functions for LSR, MSR
# and IIR already. The rest is done.
#
# *Source: PC16550D datasheet, "Interrupt Control Functions".*
#
# <details><summary>Hint 1: a nudge</summary>Four registers are left, and only two of them need more than a
# call.</details>
# <details><summary>Hint 2: the idea</summary><code>chip.thre</code> becomes False if IIR's low four bits are 2: with
# the FIFOs on it is 0xC2. (PC16550D, "Interrupt Control Functions", the row of the transmitter)</details>
# <details><summary>Hint 3: nearly there</summary><code>if name == "IIR": value = identify(chip); if value &amp; 0x0F ==
# 2: chip.thre = False; return value</code>. The classic mistake clears it at every read: while data comes in, nothing
# goes out.</details>


# %% exercise="08.8"
def read_uart(chip, offset: int) -> int:
    """The guest reads port 0x3F8 + offset."""
    name = register(offset, chip.dlab, False)
    if name in ("DLL", "DLM"):
        return chip.divisor & 0xFF if name == "DLL" else chip.divisor >> 8
    if name in ("IER", "LCR", "MCR", "SCR"):
        return getattr(chip, name.lower())
    ### BEGIN SOLUTION
    if name == "RBR":
        return chip.fifo.pop(0) if chip.fifo else 0
    if name == "LSR":
        return line_status(chip)
    if name == "MSR":
        return modem_status(chip)
    value = identify(chip)
    if value & 0x0F == 0x02:
        chip.thre = False
    return value
    ### END SOLUTION


# %% check="08.8"
check("08.8", read_uart)

# %%
def greedy(chip, offset):  # Break it: every read of IIR takes the transmitter's interrupt back
    value = read_uart(chip, offset)
    chip.thre = chip.thre and offset != 2
    return value

with trying():
    print(asks(mine("read_uart"), count=1), asks({"read_uart": greedy}, count=1), sep="")
reveal("8.h", 2, "for it was not named. In the second run c2 is missing: this driver never sends its next letter.")

# %% [markdown]
# ## 9 · Writing sends, and arms
#
# A driver that sends by interrupts sends no first byte. It enables the transmitter's interrupt, bit 1 of IER, and sends
# in the handler.
#
# **Predict.** The transmitter is idle, and a guest enables its interrupt. It comes:
#
# 1. at once
# 2. after the next byte
# 3. never: nothing has changed
#
# *Source: PC16550D datasheet, "Interrupt Enable Register"; Linux, 8250_port.c, serial8250_start_tx.*

# %%
predict("8.i", 1)

# %% [markdown]
# ### Task 08.9
# ![Enabling arms, IIR takes back, each byte arms again](img/lab08/thre.svg)
#
# Complete two writes. **THR**: the byte goes out (`chip.sent`), or in loopback to `receive`; either way the transmitter
# has *become* empty: `chip.thre` is True. **IER**: four bits; if bit 1 goes from 0 to 1, `chip.thre` is True again.
#
# *Source: PC16550D datasheet, "Interrupt Enable Register", "Modem Control Register".*
#
# <details><summary>Hint 1: a nudge</summary>Compare the new IER with the old one before you store it.</details>
# <details><summary>Hint 2: the idea</summary>A bit that goes up is in the new value and not in the old:
# <code>value &amp; ~chip.ier</code>. Loopback is bit 4 of MCR. (PC16550D, "FIFO Interrupt Mode Operation")</details>
# <details><summary>Hint 3: nearly there</summary><code>if value &amp; ~chip.ier &amp; 2: chip.thre = True</code>, then
# <code>chip.ier = value &amp; 0x0F</code>. The classic mistake arms only after a byte: guest and VMM wait for each
# other.</details>


# %% exercise="08.9"
def write_uart(chip, offset: int, value: int) -> None:
    """The guest writes port 0x3F8 + offset."""
    name = register(offset, chip.dlab, True)
    if name in ("DLL", "DLM"):
        chip.divisor = chip.divisor & 0xFF00 | value if name == "DLL" else chip.divisor & 0xFF | value << 8
    elif name == "FCR":
        control_fifo(chip, value)
    elif name in ("LCR", "MCR", "SCR"):
        setattr(chip, name.lower(), value & 0x1F if name == "MCR" else value)
    ### BEGIN SOLUTION
    elif name == "THR":
        if chip.mcr & 0x10:
            receive(chip, value)
        else:
            chip.sent.append(value)
        chip.thre = True
    elif name == "IER":
        if value & ~chip.ier & 2:
            chip.thre = True
        chip.ier = value & 0x0F
    ### END SOLUTION


# %% check="08.9"
check("08.9", write_uart)

# %%
def send(**parts):  # interrupts while the gate was closed, interrupts in all, a byte of the nonce
    board = Board(parts, "thre-sender", nonce=7)
    board.go()
    return repr(board.screen), board.console.strip(), "sleeps" if board.page.if_flag else "halts"

def unarmed(chip, offset, value):  # Break it: enabling raises nothing
    before = chip.thre
    write_uart(chip, offset, value)
    chip.thre = before if offset == 1 else chip.thre

with trying():
    rows = [("yours", *send(write_uart=write_uart)), ("unarmed", *send(write_uart=unarmed))]
    show(table(rows, ("", "sent", "interrupts", "then it")))
reveal("8.i", 1, "for drivers count on it. Without it guest and VMM both sleep: the star is all that came.")

# %% [markdown]
# ## 10 · The wire
#
# A wire leads from the chip to the interrupt controller: IRQ4. In a PC there is a gate in it, which **OUT2** of MCR
# opens.
#
# **Predict.** A driver enables interrupts, and forgets OUT2. Typed letters:
#
# 1. cause interrupts as ever
# 2. wait in the FIFO, and nobody is called
#
# *Source: IBM PC/AT Technical Reference, "Serial/Parallel Adapter"; PC16550D datasheet, "Modem Control Register".*

# %%
predict("8.j", 1)

# %% [markdown]
# ### Task 08.10
# The wire is up while IIR names something, OUT2 (bit 3 of MCR) is 1, and the chip is not in loopback (bit 4), which
# drops OUT2.
#
# *Source: PC16550D datasheet, "Modem Control Register", bits 3 and 4.*
#
# <details><summary>Hint 1: a nudge</summary>IIR has a bit that says "none".</details>
# <details><summary>Hint 2: the idea</summary>Both bits of MCR can be looked at together:
# <code>chip.mcr &amp; 0x18</code> must be 0x08. (PC16550D, MCR)</details>
# <details><summary>Hint 3: nearly there</summary><code>not identify(chip) &amp; 1</code>. The classic mistake takes an
# IIR of 0 for "none": it is the modem.</details>


# %% exercise="08.10"
def irq(chip) -> bool:
    """Whether the UART's interrupt line is up."""
    ### BEGIN SOLUTION
    return chip.mcr & 0x18 == 0x08 and not identify(chip) & 1
    ### END SOLUTION


# %% check="08.10"
check("08.10", irq)

# %%
with trying():
    gateless = lambda chip: not identify(chip) & 1  # Break it: no gate
    rows = [("yours", *send(irq=irq)), ("no gate", *send(irq=gateless))]
    show(table(rows, ("", "sent", "interrupts", "then it")))
reveal("8.j", 2, "for the gate is shut. Without it the guest's first number is not 00: interrupts before it was ready.")

# %% [markdown]
# **Your UART is complete.** Now read `minivmm/devices/uart.py`, on which Linux boots: what has it that yours has not?
#
# ## 11 · What time is it?
#
# A PC's clock is two ports: 0x70 chooses a register, 0x71 is its value. Seconds are register 0, minutes 2, hours 4. How
# the numbers are written, register B says: bit 2, binary (else BCD); bit 1, 24 hours (else 12).
#
# **Predict.** It is 11 in the evening, BCD, 12 hours. Register 4 reads:
#
# 1. 0x23
# 2. 0x11
# 3. 0x91
#
# *Source: Motorola MC146818 datasheet, "Time, Calendar and Alarm Locations", table 3.*

# %%
predict("8.k", 1)

# %% [markdown]
# ### Task 08.11
# Complete `clock_register`. **BCD** has a decimal digit in each half: 47 is 0x47. With 12 hours, the hours go 12, 1, 2,
# … 11, and bit 7 is 1 from noon on; it is set last, for it is no part of the number.
#
# *Source: Motorola MC146818 datasheet, table 3, "Register B".*
#
# <details><summary>Hint 1: a nudge</summary>First 12 hours, then BCD, then bit 7.</details>
# <details><summary>Hint 2: the idea</summary><code>(hour - 1) % 12 + 1</code> is 12 at midnight and at noon. BCD is
# <code>value // 10 &lt;&lt; 4 | value % 10</code>. (MC146818, "Register B", DM and 24/12)</details>
# <details><summary>Hint 3: nearly there</summary>A variable <code>pm = 0</code>, which becomes 0x80 where the register
# is 4, bit 1 of <code>b</code> is 0 and the hour is 12 or more. The classic mistake takes DM = 1 for BCD.</details>


# %% exercise="08.11"
def clock_register(index: int, moment, b: int) -> int:
    """What a register of the time holds at `moment` (a datetime), where register B holds `b`."""
    value = {
        0: moment.second, 2: moment.minute, 4: moment.hour, 6: moment.isoweekday() % 7 + 1,
        7: moment.day, 8: moment.month, 9: moment.year % 100, 0x32: moment.year // 100,
    }[index]
    ### BEGIN SOLUTION
    pm = 0
    if index == 4 and not b & 2:
        pm = 0x80 if value >= 12 else 0
        value = (value - 1) % 12 + 1
    return (value if b & 4 else value // 10 << 4 | value % 10) | pm
    ### END SOLUTION


# %% check="08.11"
check("08.11", clock_register)

# %%
def reading(b, part=clock_register):  # 23:05:47, by a guest that prints what is in the registers
    script = [(0, [("time", START + 39_948_000_000)])]
    board = Board({"clock_register": part}, "rtc-reader", nonce=7, count=1, value=b, script=script)
    board.go()
    return board.console.strip()

with trying():
    names = {2: "BCD, 24 h", 6: "binary, 24 h", 0: "BCD, 12 h", 4: "binary, 12 h"}
    rows = [(names[b], reading(b)) for b in names]
    rows.append(("binary for BCD", reading(2, lambda index, moment, b: clock_register(index, moment, b ^ 4))))
    show(table(rows, ("register B", "century:year/month/day hours:minutes:seconds")))  # Break it: the last row
reveal("8.k", 3, "for 11 in BCD is 0x11, and bit 7 says PM.")

# %% [markdown]
# ## 12 · A time that never was
#
# A guest reads the clock register by register, and the clock does not stop for it. So register A has **UIP**, update in
# progress: it rises 244 µs before the seconds change, and stays for the 1984 µs that the change takes.
#
# **Predict.** Just before noon a careless guest reads seconds, minutes, hours, in this order. It can get:
#
# 1. 11:59:59 or 12:00:00, nothing else
# 2. 12:59:59
# 3. 11:00:00
#
# *Source: Motorola MC146818 datasheet, "Update Cycle", table 6.*

# %%
print(getsource(Clock))
predict("8.l", 1)

# %% [markdown]
# ### Task 08.12
# ![UIP rises before the seconds change; a careless reading across it is torn](img/lab08/uip.svg)
#
# Complete the read of port 0x71. **A** (0x0A): `clock.a`, with bit 7 in the last 2228 µs of each second of `clock.now`.
# **C** (0x0C): `clock.flags`, and bit 7 if one of them is set in B as well; reading clears them. **D** (0x0D): 0x80. The
# `TIME`: your `clock_register`. All else: `clock.cmos`.
#
# *Source: Motorola MC146818 datasheet, "Register A" to "Register D".*
#
# <details><summary>Hint 1: a nudge</summary>Five kinds of registers: A, C, D, the time, and all that is memory. B is
# done below.</details>
# <details><summary>Hint 2: the idea</summary><code>clock.now % 1_000_000</code> are the µs of this second. C is like
# LSR: make the answer, then clear. (MC146818, "Register C")</details>
# <details><summary>Hint 3: nearly there</summary><code>flags | (0x80 if flags &amp; clock.b else 0)</code>; the time is
# <code>clock_register(clock.index, clock.moment, clock.b)</code>. The classic mistake gives UIP for the 244 µs
# only.</details>

# %% exercise="08.12"
TIME = (0, 2, 4, 6, 7, 8, 9, 0x32)


def read_clock(clock) -> int:
    """The guest reads port 0x71: register `clock.index`."""
    if clock.index == 0x0B:
        return clock.b
    ### BEGIN SOLUTION
    if clock.index == 0x0A:
        return clock.a | (0x80 if clock.now % 1_000_000 >= 1_000_000 - 2228 else 0)
    if clock.index == 0x0C:
        flags, clock.flags = clock.flags, 0
        return flags | (0x80 if flags & clock.b else 0)
    if clock.index == 0x0D:
        return 0x80
    if clock.index in TIME:
        return clock_register(clock.index, clock.moment, clock.b)
    return clock.cmos[clock.index]
    ### END SOLUTION


# %% check="08.12"
check("08.12", read_clock)

# %%
def at_noon(careful):  # each look at the clock takes 20 µs
    script = [(0, [("time", START + 999_960)])]
    board = Board(mine("read_clock"), "rtc-reader", nonce=7, count=1, option=careful, script=script)
    board.go()
    return board.console.strip()

with trying():
    print(at_noon(1), "careful")
    print(at_noon(0), "Break it: the same guest, without a look at UIP")
reveal("8.l", 2, "with the seconds of the old minute, and the hour of the new one: an hour ahead, once in a while.")

# %% [markdown]
# Bit 7 of port 0x70 is not for the clock: it keeps **NMIs** off. Whoever forgets to mask it finds register 0x8A empty.
#
# ## 13 · The keyboard controller holds the reset line
#
# When the AT was built, a pin of its keyboard controller was free, so it got the processor's RESET. Commands go to port
# 0x64, their bytes and answers through 0x60. Linux still knows this way to reset.
#
# **Predict.** A guest writes 0xFE to port **0x60**:
#
# 1. it is reset
# 2. a byte for the keyboard: nothing stops
#
# *Source: IBM PC/AT Technical Reference, "Keyboard Controller", "Commands".*

# %%
print(getsource(Controller))
predict("8.m", 1)

# %% [markdown]
# ### Task 08.13
# Port 0x64: **0xAA**, self test, answers 0x55; **0x20** answers `keyboard.config`; **0x60** and **0xD1** want a byte;
# **0xFE** is "reset". Port 0x60 brings that byte: for 0x60 the new `config`, for 0xD1 "reset" if its bit 0 is *0*.
# Answers are appended to `keyboard.output`.
#
# *Source: IBM PC/AT Technical Reference, "Keyboard Controller", "Commands".*
#
# <details><summary>Hint 1: a nudge</summary>What must be remembered between the two ports, and for how long?</details>
# <details><summary>Hint 2: the idea</summary><code>keyboard.expects</code> is the command that waits for its byte. One
# byte ends it, and so does another command. (PC/AT Technical Reference, commands 60 and D1)</details>
# <details><summary>Hint 3: nearly there</summary><code>keyboard.expects = value if value in (0x60, 0xD1) else 0</code>
# at port 0x64; at port 0x60 <code>command, keyboard.expects = keyboard.expects, 0</code>. The classic mistake resets
# where bit 0 is 1.</details>


# %% exercise="08.13"
def write_keyboard(keyboard, port: int, value: int):
    """The guest writes port 0x64 or 0x60. Returns "reset" where it asks for that, else None."""
    ### BEGIN SOLUTION
    if port == 0x60:
        command, keyboard.expects = keyboard.expects, 0
        if command == 0x60:
            keyboard.config = value
        return "reset" if command == 0xD1 and not value & 1 else None
    keyboard.expects = value if value in (0x60, 0xD1) else 0
    if value in (0xAA, 0x20):
        keyboard.output.append(0x55 if value == 0xAA else keyboard.config)
    return "reset" if value == 0xFE else None
    ### END SOLUTION


# %% check="08.13"
check("08.13", write_keyboard)

# %%
def probe(part, **how):  # self test and command byte; then each command byte as it was written and read
    board = Board({"write_keyboard": part}, "kbd-tester", nonce=7, **how)
    end = board.go()
    return board.console.replace("\n", " | "), end

def muddled(keyboard, port, value):  # Break it: 0xD1 is taken for "reset"
    return "reset" if value == 0xD1 else write_keyboard(keyboard, port, value)

with trying():
    show(table([("yours", *probe(write_keyboard)), ("muddled", *probe(muddled))], ("", "what the guest saw", "end")))
reveal("8.m", 2, "for commands come to 0x64. And 0xD1 alone is no reset: every boot switches A20 by it.")

# %% [markdown]
# ## 14 · Two more switches
#
# Chipsets have a **reset register**, port 0xCF9: bit 2 does it. And ACPI has **PM1a control**, here at port 0x604: bits
# 10–12 are a type of sleep, bit 13, SLP_EN, falls asleep. Which type is *off* (S5), the machine's tables say. Here: 5.
#
# **Predict.** A guest writes 0x80000600 to port 0xCF8, four bytes. Port 0xCF9 is the second of them:
#
# 1. reset: 06 has arrived there
# 2. nothing: that is a PCI address
#
# *Source: Intel ICH9 datasheet, "RST_CNT"; ACPI 6.5, 4.8.3.2 "PM1 Control Grouping".*

# %%
predict("8.n", 1)

# %% [markdown]
# ### Task 08.14
# ![Four ways to stop, and who sees them](img/lab08/ways.svg)
#
# Complete `power`: "reset" for bit 2 of 0xCF9, where only a *byte* counts; "off" for SLP_EN with type 5 at 0x604,
# whatever its other bits are.
#
# *Source: Intel ICH9 datasheet, "RST_CNT: Reset Control Register"; ACPI 6.5, 4.8.3.2.*
#
# <details><summary>Hint 1: a nudge</summary>Two lines, each with three conditions.</details>
# <details><summary>Hint 2: the idea</summary>The type is a number of three bits, not a mask:
# <code>value &gt;&gt; 10 &amp; 7</code>. (ACPI, SLP_TYPx and SLP_EN)</details>
# <details><summary>Hint 3: nearly there</summary><code>port == 0x604 and value &amp; 0x2000 and value &gt;&gt; 10 &amp;
# 7 == 5</code>. The classic mistake compares with 6, or with 0x3400: other bits may be set.</details>


# %% exercise="08.14"
def power(port: int, size: int, value: int):
    """The guest writes `size` bytes to any port. Returns "reset", "off", or None where it means neither."""
    ### BEGIN SOLUTION
    if port == 0xCF9 and size == 1 and value & 4:
        return "reset"
    if port == 0x604 and value & 0x2000 and value >> 10 & 7 == 5:
        return "off"
    return None
    ### END SOLUTION


# %% check="08.14"
check("08.14", power)

# %%
def stops(way, part):  # the boot, a byte, and a dot for each of four near misses
    board = Board({"power": part}, "power-switch", nonce=7, count=0, value=way)
    return board.go(), board.console.strip()

def hasty(port, size, value):  # Break it: bytes, whatever the size of the access
    return power(0xCF9, 1, value >> 8) if port == 0xCF8 else power(port, size, value)

with trying():
    rows = [("0xCF9", *stops(0, power)), ("S5", *stops(1, power)), ("S5, hasty VMM", *stops(1, hasty))]
    show(table(rows, ("the guest wants", "the VMM does", "")))
reveal("8.n", 2, "for the chipset looks at the size. A VMM that doesn't is reset by the first look for a PCI device.")

# %% [markdown]
# ## 15 · The third way
#
# A fault while a fault is served while a fault is served: the processor gives up. A PC's chipset sees that, and resets.
# KVM tells you, **KVM_EXIT_SHUTDOWN**, and the rest is up to you.
#
# **Predict.** Your VMM takes a triple fault for a reset, as a PC does. A kernel that dies early in its boot:
#
# 1. boots again and again, in silence
# 2. stands still
# 3. explains itself
#
# *Source: Intel SDM vol. 3, "Interrupt 8: Double Fault Exception (#DF)"; KVM API, "5. The kvm_run structure".*

# %%
predict("8.o", 1)

# %% [markdown]
# ### Task 08.15
# The guest has stopped. What was it? If it has `asked` for something, that. Else the page knows: KVM_EXIT_HLT is
# "asleep" where `page.if_flag` is 1, for an interrupt can wake it, and "halted" where it is 0; KVM_EXIT_SHUTDOWN is
# "died". Any other exit: RuntimeError, with its number.
#
# *Source: KVM API, "5. The kvm_run structure"; Intel SDM vol. 2, HLT.*
#
# <details><summary>Hint 1: a nudge</summary>Four questions, one after the other.</details>
# <details><summary>Hint 2: the idea</summary>A guest that asked stopped at a port, so the page says KVM_EXIT_IO: that
# question comes first. (KVM API, exit_reason)</details>
# <details><summary>Hint 3: nearly there</summary><code>if asked: return asked</code>, then three times
# <code>page.exit_reason == …</code>, then <code>raise RuntimeError(f"…")</code>. The classic mistake takes the word
# SHUTDOWN for "off".</details>


# %% exercise="08.15"
def verdict(page, asked) -> str:
    """What became of a guest that has stopped: "reset", "off", "asleep", "halted" or "died".

    `asked` is "reset" or "off" if it asked for that, else None; `page` is its kvm_run page.
    """
    ### BEGIN SOLUTION
    if asked:
        return asked
    if page.exit_reason == KVM_EXIT_HLT:
        return "asleep" if page.if_flag else "halted"
    if page.exit_reason == KVM_EXIT_SHUTDOWN:
        return "died"
    raise RuntimeError(f"nobody handles exit reason {page.exit_reason}")
    ### END SOLUTION


# %% check="08.15"
check("08.15", verdict)

# %%
def end_of(way):
    board = Board(mine("power", "write_keyboard"), "power-switch", nonce=7, count=0, value=way)
    asked = board.go()
    return board, verdict(board.page, asked)

with trying():
    ways = ("chipset", "S5", "keyboard controller", "triple fault", "CLI, HLT", "STI, HLT")
    show(table([(name, end_of(way)[1]) for way, name in enumerate(ways)], ("the guest does", "verdict")))
    print(str(end_of(3)[0].why).partition("\n\n")[0])  # Break it: a VMM can say more than "it is gone"
reveal("8.o", 1, "for nobody is told. So this course's VMM stops, and explains: SHUTDOWN is a death, not a switch.")

# %% [markdown]
# ## 16 · Again from the start
#
# A reset is more than a jump: processor, memory and *devices* are as at power on. The clock alone goes on: it has a
# battery. `board.boot()` does all that, `board.go()` runs the guest and gives what it has asked for, and `board.page` is
# its page.
#
# **Predict.** A guest dies with DLAB set, and the VMM resets everything but the UART. The next boot:
#
# 1. prints as ever
# 2. prints nothing
# 3. hangs
#
# *Source: PC16550D datasheet, "UART Reset Configuration".*

# %%
predict("8.p", 1)

# %% [markdown]
# ### Task 08.16
# ![Go, judge; boot at a reset; return everything else](img/lab08/live.svg)
#
# Run the machine until it stays down. At "reset" boot it and go on; return any other verdict. A guest that still resets
# after `most` runs gets "boot loop".
#
# *Source: KVM API 4.10, KVM_RUN; this machine's `Board`.*
#
# <details><summary>Hint 1: a nudge</summary>The board comes booted: the first thing is to run it.</details>
# <details><summary>Hint 2: the idea</summary>A loop of <code>most</code> rounds; in each one run and one verdict.
# Ask for <code>board.page</code> in each round: a boot makes a new one. (KVM API 4.10)</details>
# <details><summary>Hint 3: nearly there</summary><code>for _ in range(most): end = verdict(board.page,
# board.go())</code>; if it is not "reset", return it, else <code>board.boot()</code>. The classic mistake has no end
# for a guest that resets for ever.</details>


# %% exercise="08.16"
def live(board, most: int = 5) -> str:
    """Runs a board that is booted, and boots it again at each reset. Returns what became of it in the end."""
    ### BEGIN SOLUTION
    for _ in range(most):
        end = verdict(board.page, board.go())
        if end != "reset":
            return end
        board.boot()
    return "boot loop"
    ### END SOLUTION


# %% check="08.16"
check("08.16", live)

# %%
with trying():
    print(live(board := Board({}, "power-switch", nonce=7, count=2)), board.console, sep="\n")
    print(live(Board({}, "power-switch", nonce=7, count=99)))
    board = Board(mine("read_uart", "write_uart"), "lsr-waiter", nonce=7)
    board.uart.lcr |= 0x80  # Break it: somebody died with DLAB set, and the UART was not reset
    board.boot(devices=False)
    print("a guest that", live(board), "has sent", repr(board.screen))
reveal("8.p", 2, "for its letters go into the divisor. “After a reboot the console is dead” is this.")

# %% [markdown]
# ## 17 · Your PC
#
# Now the parts become a machine. Every port access comes to one function, which knows who lives where.
#
# **Predict.** A guest reads a port that nobody has:
#
# 1. it gets 0
# 2. it gets all ones
# 3. the machine stops
#
# *Source: IBM PC/AT Technical Reference, "I/O Address Map".*

# %%
predict("8.q", 1)

# %% [markdown]
# ### Task 08.17
# `value` is None for a read. 0x3F8–0x3FF: `pc.uart`. 0x70, which is only written: `pc.rtc.index`, seven bits; 0x71: your
# `read_clock`, or `pc.rtc.store(value)`. 0x60 and 0x64: `pc.keyboard.read(port)`, or your `write_keyboard`. All other
# writes go to `power`. Reads that nobody answers are all ones, in `size` bytes.
#
# *Source: IBM PC/AT Technical Reference, "I/O Address Map"; "CMOS RAM" (bit 7 of port 0x70).*
#
# <details><summary>Hint 1: a nudge</summary>Split it in two: a function for reads, and one for writes, or one
# <code>if value is None</code> for each device.</details>
# <details><summary>Hint 2: the idea</summary>A write's answer must come out again: "reset" and "off" are returned by
# <code>write_keyboard</code> and <code>power</code>. (The other writes return None by themselves.)</details>
# <details><summary>Hint 3: nearly there</summary><code>if 0x3F8 &lt;= port &lt;= 0x3FF: return read_uart(pc.uart, port
# &amp; 7) if value is None else write_uart(pc.uart, port &amp; 7, value)</code>, and so on; at the end <code>(1
# &lt;&lt; 8 * size) - 1</code>. The classic mistake asks <code>if value</code>: a 0 is written, too.</details>


# %% exercise="08.17"
def access(pc, port: int, size: int, value=None):
    """The guest reads (value is None) or writes a port. Returns what it reads; for a write "reset", "off" or None."""
    ### BEGIN SOLUTION
    if 0x3F8 <= port <= 0x3FF:
        return read_uart(pc.uart, port & 7) if value is None else write_uart(pc.uart, port & 7, value)
    if port == 0x71:
        return read_clock(pc.rtc) if value is None else pc.rtc.store(value)
    if port in (0x60, 0x64):
        return pc.keyboard.read(port) if value is None else write_keyboard(pc.keyboard, port, value)
    if value is None:
        return (1 << 8 * size) - 1
    if port == 0x70:
        pc.rtc.index = value & 0x7F
    return power(port, size, value)
    ### END SOLUTION


# %% check="08.17"
check("08.17", access)

# %%
def say(*lines):
    """Types lines to the shell, each with ENTER, and shows what has come to its screen since."""
    before, ends = len(shell.screen), []
    for line in lines:
        shell.type(line + "\r")
        ends.append(live(shell))
    print(shell.screen[before:], f"\n[{ends[-1]}, exits so far: {shell.count}]")

with trying():
    shell = Board(globals(), "mini-shell", nonce=7, now=right_now())
    print(live(shell), shell.screen)
    say("help", "time", "echo I run on your UART", "peek 1000")
    before = shell.count
    shell.type("\r"), live(shell), show(timeline(list(shell.exits)[before - shell.count :]))  # ENTER alone

# %% [markdown]
# **Talk to it**, in cells of your own: `say("…")`, or `interact(shell, live)`, a prompt until you type `bye`. All its
# ports are yours.
#
# **Break it on purpose.** Take one part away: what does the user see? Try `irq`, `line_status`, `receive`. And let the
# guest break itself: `crash`.

# %%
with trying():
    say("reset", "time"), say("off")  # everything but the clock begins again
    deaf = globals() | {"irq": lambda chip: False}  # a wire that is never up
    for name, parts, line in (("deaf", deaf, "help"), ("whole", globals(), "crash")):
        shell = Board(parts, "mini-shell", nonce=7)
        print(f"{name}:", live(shell), "before", repr(line)), say(line)
    print(str(shell.why).partition("\n\n")[0])
reveal("8.q", 2, "for nobody pulls the lines of the bus down. Probing guests count on it.")

# %% [markdown]
# The deaf one sleeps with five letters in its FIFO. When a console hangs, ask three things: is DR set, does IIR name
# it, is the wire up?
#
# ## Stretch
#
# Worth no points; each has its check.
#
# ### Task 08.18: how long is a time-out?
# A real chip waits four character times before it says 0x0C. How many µs is that? A character: a start bit, data bits,
# parity if any, stop bits. A bit takes 16 × divisor clocks of 1.8432 MHz.
#
# *Source: PC16550D datasheet, "FIFO Interrupt Mode Operation".*
#
# <details><summary>Hint 1: a nudge</summary>Count the bits of one character first. 8N1 has ten.</details>
# <details><summary>Hint 2: the idea</summary>Bit 3 of LCR adds one bit, whatever kind of parity it is; bit 2 adds one
# stop bit, or half a one with five data bits.</details>
# <details><summary>Hint 3: nearly there</summary><code>4 * bits * 16 * divisor / 1.8432</code>. The classic mistake
# forgets the start bit.</details>


# %% exercise="08.18"
def timeout_us(divisor: int, lcr: int) -> float:
    """Four character times in µs."""
    ### BEGIN SOLUTION
    data = 5 + (lcr & 3)
    stop = 1 if not lcr & 4 else 1.5 if data == 5 else 2
    bits = 1 + data + (lcr >> 3 & 1) + stop
    return 4 * bits * 16 * divisor / 1.8432
    ### END SOLUTION


# %% check="08.18"
check("08.18", timeout_us)

# %%
with trying():
    board = Board({}, "baud-setter", nonce=7)
    board.go()
    lines = ((1, 3), (12, 3), (0x0C00, 3), (board.uart.divisor, board.uart.lcr))  # the last is that guest's
    rows = [(*line_format(*line), f"{timeout_us(*line):.0f} µs") for line in lines]
    show(table(rows, ("bits/s", "format", "so long waits a letter that comes alone")))

# %% [markdown]
# ### Task 08.19: errors wait with their byte
# Parity, framing and break errors wait with their byte. An entry of `chip.fifo` is now the byte with the LSR bits of
# its flaws above it: 0x1041 is "A" with a break. LSR shows, and takes away, the flaws of the first; the overrun is in
# `chip.errors` as before. Bit 7: FIFOs on, and a flaw anywhere in them.
#
# *Source: PC16550D datasheet, "Line Status Register", bits 2 to 4 and 7.*
#
# <details><summary>Hint 1: a nudge</summary>Make the answer from the first entry, then look at all of them for bit
# 7.</details>
# <details><summary>Hint 2: the idea</summary><code>chip.fifo[0] &gt;&gt; 8</code> has its places in LSR already. After
# the read the entry is the byte alone. An overrun is no flaw of a byte.</details>
# <details><summary>Hint 3: nearly there</summary><code>any(entry &gt;&gt; 8 for entry in chip.fifo)</code>, asked
# before <code>chip.fifo[0] &amp;= 0xFF</code>. The classic mistake shows the flaws of all bytes at once.</details>


# %% exercise="08.19"
def full_status(chip) -> int:
    """A read of LSR, for a FIFO whose entries have their flaws above them."""
    ### BEGIN SOLUTION
    status = 0x60 | chip.errors | bool(chip.fifo)
    if chip.fcr & 1 and any(entry >> 8 for entry in chip.fifo):
        status |= 0x80
    if chip.fifo:
        status |= chip.fifo[0] >> 8
        chip.fifo[0] &= 0xFF
    chip.errors = 0
    return status
    ### END SOLUTION


# %% check="08.19"
check("08.19", full_status)

# %%
with trying():
    script = [(1, [("flawed", [0x41, 0x1042, 0x43])])]  # A, B with a break, C
    board = Board({"line_status": full_status}, "rx-reader", nonce=7, option=1, script=script)
    board.go(), print(board.console.splitlines()[1])  # LSR.byte, …: e1 warns, f1 tells, 61 is quiet again

# %% [markdown]
# ### Task 08.20: ticks of the clock
# The clock has a periodic interrupt. With n in the low bits of register A it comes every 2^(n−1) ticks of 32768 Hz; 0
# is never, and 1 and 2 are as 8 and 9. How many fell between two moments? (A VMM that was busy must know.)
#
# *Source: Motorola MC146818 datasheet, "Register A", table 5.*
#
# <details><summary>Hint 1: a nudge</summary>How many were there up to now, since the start of all time? And up to
# before?</details>
# <details><summary>Hint 2: the idea</summary><code>now * 32768 // 1_000_000</code> is the number of ticks; whole
# periods in it are another <code>//</code>.</details>
# <details><summary>Hint 3: nearly there</summary><code>n = a &amp; 15; n += 7 if n in (1, 2) else 0</code>. The classic
# mistake divides the distance, and drops the tick that lies between two short looks.</details>


# %% exercise="08.20"
def periodic(a: int, before: int, now: int) -> int:
    """How many periodic interrupts came later than `before` and up to `now`, both in µs since 1970."""
    ### BEGIN SOLUTION
    n = a & 15
    if n == 0:
        return 0
    every = 1 << (n + 7 if n < 3 else n) - 1
    ticks = lambda us: us * 32768 // 1_000_000
    return ticks(now) // every - ticks(before) // every
    ### END SOLUTION


# %% check="08.20"
check("08.20", periodic)

# %%
with trying():
    looks = range(0, 1_000_001, 500)  # somebody looks every 500 µs, for a second of 1024 ticks
    spans = list(zip(looks, looks[1:]))
    print("yours:", sum(periodic(0x26, *span) for span in spans), "of", periodic(0x26, 0, looks[-1]))
    print("by distance:", sum(periodic(0x26, 0, now - before) for before, now in spans))  # Break it

# %% [markdown]
# ### Task 08.21: what has changed
# Where do `chip.deltas` come from? Compare MSR before and after: bits 0, 1 and 3 tell of a change of CTS (4), DSR (5)
# and DCD (7). Bit 2 is another: only the *end* of a ring counts, the fall of RI (6).
#
# *Source: PC16550D datasheet, "Modem Status Register", bits 0 to 3.*
#
# <details><summary>Hint 1: a nudge</summary>A change is an exclusive or.</details>
# <details><summary>Hint 2: the idea</summary>All four are four places below their lines. A fall is
# <code>before &amp; ~after</code>.</details>
# <details><summary>Hint 3: nearly there</summary><code>((before ^ after) &amp; 0xB0 | before &amp; ~after &amp; 0x40)
# &gt;&gt; 4</code>. The classic mistake tells of the beginning of a ring.</details>


# %% exercise="08.21"
def modem_deltas(before: int, after: int) -> int:
    """The new deltas, bits 0 to 3, where MSR was `before` and is `after`."""
    ### BEGIN SOLUTION
    return ((before ^ after) & 0xB0 | before & ~after & 0x40) >> 4
    ### END SOLUTION


# %% check="08.21"
check("08.21", modem_deltas)

# %%
def into_loopback(deltas):  # with OUT1: RI begins, CTS, DSR and DCD end. A letter, IIR=MSR, IIR
    board = Board({"modem_deltas": deltas}, "iir-logger", nonce=7, count=1, value=8, option=0x1401)
    board.go()
    return board.console.strip()

with trying():
    print(into_loopback(modem_deltas), "yours")
    print(into_loopback(lambda before, after: (before ^ after) >> 4), "Break it: every change counts")

# %% [markdown]
# ## And on
#
# 1. Let `write_uart` keep `chip.deltas` by your `modem_deltas` when MCR changes, as the board has just done for you.
# 2. `live` boots a machine that died of a triple fault no more. Add a choice, as QEMU's `-no-reboot` is one.
# 3. Give the clock an alarm, registers 1, 3 and 5, that wakes a guest from HLT by IRQ8.
