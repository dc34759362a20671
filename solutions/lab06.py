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
# # Lab 06 · Interrupts
#
# So far the guest asked and you answered. Today the world speaks first: a key is struck, and a program that knows
# nothing of it stops in mid-thought and runs a handler. You build every link of that chain: the table, the chip, the
# injection. At its end you steer a guest with your keys.
#
# ![From a key to a handler: device, line, chip, processor, table](img/lab06/chain.svg)
#
# Each section asks you to **predict** first. A wrong answer costs nothing and teaches most.

# %% [markdown]
# ## 1 · The table
#
# An interrupt is a call that nobody wrote. Its number, the **vector**, picks an entry of a table. In real mode that is
# the IVT (interrupt vector table), at address 0: four bytes an entry, a far pointer, the **offset first**.
#
# **Predict.** Where is the pointer of vector 0x21?
#
# 1. at 0x21
# 2. at 0x84
# 3. at 0x210
#
# *Source: Intel SDM vol. 3, "Real-Address Mode Operation", "Interrupt and Exception Handling".*

# %%
from dataclasses import dataclass

from minivmm.lab import *
from minivmm.lab06 import Board

predict("6.a", 1)  # put your answer in place of the 1

# %% [markdown]
# ### Task 06.1
# ![An entry of the real-mode table, and a gate of the 64-bit one](img/lab06/tables.svg)
#
# Complete `hook`, as a program under DOS would: put a handler of your own into the table, and return the old pointer,
# so that it can be put back. `number.to_bytes(2, "little")` makes bytes, `int.from_bytes(data, "little")` a number.
#
# *Source: Intel SDM vol. 3, "Interrupt and Exception Handling" (real mode).*
#
# <details><summary>Hint 1: a nudge</summary>Two words at four times the vector. Read them before you write.</details>
# <details><summary>Hint 2: the idea</summary>In memory the low part comes first, so the word at <code>4 * vector</code>
# is the offset, and the next one the segment. (SDM vol. 3, figure "Interrupt Vector Table in Real-Address
# Mode")</details>
# <details><summary>Hint 3: nearly there</summary><code>old = bytes(memory[place : place + 4])</code>, then
# <code>memory[place : place + 4] = offset.to_bytes(…) + segment.to_bytes(…)</code>. The classic mistake writes the
# pointer as people say it, segment first.</details>


# %% exercise="06.1"
def hook(memory, vector: int, segment: int, offset: int):
    """Lets `vector` lead to the handler at segment:offset; `memory` is the guest's, from address 0.

    Returns the pointer that was there before: (segment, offset).
    """
    ### BEGIN SOLUTION
    place = 4 * vector
    old = bytes(memory[place : place + 4])
    memory[place : place + 4] = offset.to_bytes(2, "little") + segment.to_bytes(2, "little")
    return int.from_bytes(old[2:], "little"), int.from_bytes(old[:2], "little")
    ### END SOLUTION


# %% check="06.1"
check("06.1", hook)

# %%
machine = Machine()
machine.load_guest(guests.load("ivt-caller"), nonce=7)
memory = machine.memory.slots[0].data
memory[0x2345:0x2348] = b"\xb0\x2a\xcf"  # mov al, 0x2a; iret
with trying():
    for vector in range(0x60, 0x68):
        hook(memory, vector, 0x0200, 0x0345)
    print(machine.run(1), machine.console.decode(), sep="\n")  # vectors, and what the handler left
show(hexdump(memory[0x180:0x1A0], 0x180), reveal("6.a", 2, "for an entry has four bytes."))

# %% [markdown]
# ## 2 · Gates
#
# Protected and long mode have the IDT instead, anywhere in memory: LIDT tells the CPU where. Its entries are **gates**,
# of 16 bytes in long mode. Type 14 is an *interrupt gate*: it switches interrupts off on the way in. Type 15, a *trap
# gate*, does not.
#
# **Predict.** Interrupts are on. In a handler behind an interrupt gate, the flag IF …
#
# 1. is 0, and IRET brings the 1 back
# 2. is 0, and the handler must say STI
# 3. stays 1
#
# *Source: Intel SDM vol. 3, "Flag Usage By Exception- or Interrupt-Handler Procedure".*

# %%
predict("6.b", 2)

# %% [markdown]
# ### Task 06.2
# Complete `gate`. The handler's address is cut in three: bits 0–15 in bytes 0–1, bits 16–31 in bytes 6–7, bits 32–63
# in bytes 8–11. The selector is in bytes 2–3. Byte 4 is 0 (no other stack), byte 5 is present (bit 7) and the type, and
# bytes 12–15 are 0.
#
# *Source: Intel SDM vol. 3, "64-Bit Mode IDT".*
#
# <details><summary>Hint 1: a nudge</summary>Six pieces, joined with <code>+</code>. Their lengths: 2, 2, 2, 2, 4,
# 4.</details>
# <details><summary>Hint 2: the idea</summary>Present is bit 7 of byte 5; without it the CPU raises #NP, whose gate is
# missing as well, and so on to the triple fault. (SDM vol. 3, "Interrupt 11")</details>
# <details><summary>Hint 3: nearly there</summary><code>(handler &amp; 0xFFFF).to_bytes(2, "little") + … + bytes([0, 0x8F
# if trap else 0x8E]) + …</code> The classic mistake forgets bits 32–63: all is well until the kernel moves to the upper
# half.</details>


# %% exercise="06.2"
def gate(handler: int, selector: int, trap: bool = False) -> bytes:
    """The 16 bytes of a present interrupt gate for ring 0, or of a trap gate."""
    ### BEGIN SOLUTION
    return (
        (handler & 0xFFFF).to_bytes(2, "little")
        + selector.to_bytes(2, "little")
        + bytes([0, 0x8F if trap else 0x8E])
        + (handler >> 16 & 0xFFFF).to_bytes(2, "little")
        + (handler >> 32).to_bytes(4, "little")
        + bytes(4)
    )
    ### END SOLUTION


# %% check="06.2"
check("06.2", gate)

# %%
def through(entry):
    """gate-caller raises #UD. The handler takes RFLAGS into RCX, 0x0badcafe into EAX, and skips."""
    machine = Machine()
    machine.load_guest(guests.load("gate-caller"), nonce=7, address=0x20000)
    machine.load(0x5000, bytes.fromhex("9c 59 b8 fe ca ad 0b 48 83 04 24 02 48 cf"))
    machine.load(0x20000 + 16 * 6, entry)  # the gate of vector 6
    stop = machine.run(1)
    return stop.explanation or f"number and IF: {machine.console.decode()}"


with trying():
    show(through(gate(0x5000, 0x18)), through(gate(0x5000, 0x18, trap=True)))
    show(through(gate(0x5000, 0x18).replace(b"\x8e", b"\x0e")))  # break it: not present
reveal("6.b", 1, "for the old flags are on the stack, and IRET takes them from there.")

# %% [markdown]
# ## 3 · A line becomes a request
#
# ![The registers of an 8259: lines, IRR, IMR, ISR](img/lab06/chip.svg)
#
# A device has one wire, up or down. The **8259** turns eight of them into requests, bits of its IRR. A line is *edge*
# or *level* triggered; in a PC its bit in ELCR says which. An edge is a rise, noted once. A level is a request for as
# long as it lasts.
#
# **Predict.** A key's line goes up and stays up. Interrupts, by edge:
#
# 1. none
# 2. one
# 3. one after the other
#
# *Source: Intel 8259A datasheet, "Edge and Level Triggered Modes"; PIIX4 datasheet, "ELCR1".*

# %%
@dataclass
class Chip:
    """One 8259. The first five fields hold a bit for each line."""

    irr: int = 0  # requested
    imr: int = 0  # masked
    isr: int = 0  # in service
    elcr: int = 0  # 1: triggered by level, 0: by edge
    lines: int = 0  # up, when we last looked
    base: int = 0  # the vector of line 0
    icw: int = 0  # the word that comes next on the data port: 2, 3, 4, or 0 for none
    read_isr: bool = False  # what the command port reads: ISR or IRR


predict("6.c", 3)

# %% [markdown]
# ### Task 06.3
# ![The same line, seen by edge and by level](img/lab06/trigger.svg)
#
# Complete `set_line`. By edge: request if the line rises; a fall takes nothing back. By level: request while it is up,
# none when it falls. Mask and service don't matter yet. (By the datasheet an edge that falls before its acknowledge is
# gone. KVM and QEMU keep it, and so do we.)
#
# *Source: Intel 8259A datasheet, "Edge and Level Triggered Modes".*
#
# <details><summary>Hint 1: a nudge</summary>What must you remember to tell a rise from a line that was up
# already?</details>
# <details><summary>Hint 2: the idea</summary><code>chip.lines</code> is the memory: look at it first, and write the new
# level into it last. <code>|= bit</code> sets, <code>&amp;= ~bit</code> clears.</details>
# <details><summary>Hint 3: nearly there</summary><code>if level and (chip.elcr &amp; bit or not chip.lines &amp;
# bit)</code>: request. <code>if not level and chip.elcr &amp; bit</code>: take it back. The classic mistake never
# clears the bit in <code>lines</code>: the first key works, and no other.</details>


# %% exercise="06.3"
def set_line(chip, number: int, level: bool) -> None:
    """Line `number`, 0 to 7, is now up (True) or down (False): updates chip.irr and chip.lines."""
    bit = 1 << number
    ### BEGIN SOLUTION
    if level and (chip.elcr & bit or not chip.lines & bit):
        chip.irr |= bit
    if not level and chip.elcr & bit:
        chip.irr &= ~bit
    chip.lines = chip.lines | bit if level else chip.lines & ~bit
    ### END SOLUTION


# %% check="06.3"
check("06.3", set_line)

# %%
edge, level, rows = Chip(), Chip(elcr=0b100), [("the line", "request, by edge", "request, by level")]
with trying():
    for step, up in enumerate([0, 1, 1, 1, 0, 1, 0]):
        set_line(edge, 2, bool(up)), set_line(level, 2, bool(up))
        rows.append(["▁▔"[up], "◆" if edge.irr else "", "◆" if level.irr else ""])
        if step == 2:  # here the interrupt is taken
            edge.irr = 0
show(table(zip(*rows), caption="the edge's request is taken after the third step"))
reveal("6.c", 2, "for it has risen once: the device must lower it before it can ring again.")

# %% [markdown]
# ## 4 · Who goes first
#
# Several lines may want at once. Line 0 is the most urgent, line 7 the least. A 1 in the mask (IMR) holds a line back.
# And while a handler is at work, its line is **in service** (ISR): only more urgent ones may interrupt it.
#
# **Predict.** Line 5 is in service. Lines 5, 6 and 3 are requested; 3 is masked. Next comes:
#
# 1. 3
# 2. 5
# 3. none for now
#
# *Source: Intel 8259A datasheet, "Fully Nested Mode".*

# %%
predict("6.d", 2)

# %% [markdown]
# ### Task 06.4
# Complete `request`. It only looks: nothing changes.
#
# *Source: Intel 8259A datasheet, "Fully Nested Mode", "Interrupt Mask Register".*
#
# <details><summary>Hint 1: a nudge</summary>Go from line 0 up. What do you find first: one that waits, or one that is
# in service?</details>
# <details><summary>Hint 2: the idea</summary>If you meet a line in service, all further ones must wait, and so must
# that line itself. What waits is <code>chip.irr &amp; ~chip.imr</code>. Being masked ends no service.</details>
# <details><summary>Hint 3: nearly there</summary><code>for number in range(8)</code>: if its bit is in
# <code>isr</code>, return None; if it waits, return the number. The classic mistake is to test <code>if number</code>:
# line 0 is a line, too.</details>


# %% exercise="06.4"
def request(chip):
    """The line that may interrupt the processor now, 0 to 7, or None."""
    ### BEGIN SOLUTION
    waiting = chip.irr & ~chip.imr
    for number in range(8):
        if chip.isr >> number & 1:
            return None
        if waiting >> number & 1:
            return number
    return None
    ### END SOLUTION


# %% check="06.4"
check("06.4", request)

# %%
states = {
    "3, 5 and 6 requested": Chip(irr=0b0110_1000),
    "3 masked": Chip(irr=0b0110_1000, imr=1 << 3),
    "3 masked, 5 in service": Chip(irr=0b0110_1000, imr=1 << 3, isr=1 << 5),
    "3 masked, 7 in service": Chip(irr=0b0110_1000, imr=1 << 3, isr=1 << 7),
}
with trying():
    show(table([(name, request(chip)) for name, chip in states.items()], ("state", "next")))
reveal("6.d", 3, "for 5 holds up itself and 6 as well, until its handler says that it is done.")

# %% [markdown]
# ## 5 · The processor asks
#
# The chip pulls INTR. When it suits the processor, it answers with **INTA** and gets a vector: the chip's base plus the
# line. At this moment the request moves from IRR to ISR.
#
# **Predict.** A level-triggered line was up for an instant. When the processor asks, no request is left. It gets:
#
# 1. no vector, and goes on
# 2. the vector of that line
# 3. the vector of line 7
#
# *Source: Intel 8259A datasheet, "Interrupt Sequence".*

# %%
predict("6.e", 1)

# %% [markdown]
# ### Task 06.5
# Complete `acknowledge`. `number` is what `request` said, perhaps None. An edge is used up by it. A level lasts.
# Without a request, answer with line 7 and change nothing: that is the **spurious interrupt**. Linux counts them; a
# careful handler of IRQ7 reads the ISR to see whether it is meant.
#
# *Source: Intel 8259A datasheet, "Interrupt Sequence"; PIIX4 datasheet, "ELCR1".*
#
# <details><summary>Hint 1: a nudge</summary>Three things happen for a real line, one for None.</details>
# <details><summary>Hint 2: the idea</summary>The bit appears in <code>isr</code>, and leaves <code>irr</code> unless
# <code>elcr</code> has it. The others' bits stay as they are.</details>
# <details><summary>Hint 3: nearly there</summary><code>if number is None: return chip.base + 7</code>, before anything
# else. The classic mistake puts line 7 in service as well: a careful guest then never ends it.</details>


# %% exercise="06.5"
def acknowledge(chip, number) -> int:
    """INTA: the processor takes line `number`, or asks in vain (None). Returns the vector."""
    ### BEGIN SOLUTION
    if number is None:
        return chip.base + 7
    bit = 1 << number
    chip.isr |= bit
    if not chip.elcr & bit:
        chip.irr &= ~bit
    return chip.base + number
    ### END SOLUTION


# %% check="06.5"
check("06.5", acknowledge)

# %%
chip, rows = Chip(irr=0b0010_0010, elcr=0b0010_0000, base=0x20), []  # 1 by edge, 5 by level
with trying():
    for _ in range(3):
        number = request(chip)
        rows.append((number, hex(acknowledge(chip, number)), f"{chip.irr:08b}", f"{chip.isr:08b}"))
        chip.isr = 0  # as if the handler had ended it
        set_line(chip, 5, len(rows) < 2)  # line 5 falls after the second
    show(table(rows, ("request", "vector", "IRR", "ISR")))
reveal("6.e", 3, "for it must get one, and the chip has nothing better: look at the third row.")

# %% [markdown]
# ## 6 · The end
#
# The chip can't see a handler return. The handler says so: **EOI**, end of interrupt, a command byte. 0x20 ends the
# most urgent line in service, which is the one that began last; 0x60 + n ends line n.
#
# **Predict.** A handler of line 4 forgets its EOI. What comes no more?
#
# 1. line 4 only
# 2. lines 4 to 7
# 3. all
#
# *Source: Intel 8259A datasheet, "End of Interrupt (EOI)".*

# %%
predict("6.f", 1)

# %% [markdown]
# ### Task 06.6
# Complete `end_of_interrupt`. In the command (the datasheet calls it OCW2) bit 5 says "end", bit 6 "the line in bits
# 0–2"; without bit 5 it ends nothing. Bit 7 is about rotation: 0xA0 ends as 0x20 does.
#
# *Source: Intel 8259A datasheet, "Operation Command Word 2 (OCW2)".*
#
# <details><summary>Hint 1: a nudge</summary>Three cases: no end, one that names its line, one that does not.</details>
# <details><summary>Hint 2: the idea</summary>Only <code>isr</code> changes. The most urgent in service is its lowest
# bit that is 1. It may be that none is.</details>
# <details><summary>Hint 3: nearly there</summary><code>x &amp; (x - 1)</code> is x without its lowest 1. The classic
# mistake is <code>isr = 0</code>: it works until two handlers are nested.</details>


# %% exercise="06.6"
def end_of_interrupt(chip, command: int) -> None:
    """Does what the command OCW2 says about the end of an interrupt."""
    ### BEGIN SOLUTION
    if command & 0x20 and command & 0x40:
        chip.isr &= ~(1 << (command & 7))
    elif command & 0x20:
        chip.isr &= chip.isr - 1
    ### END SOLUTION


# %% check="06.6"
check("06.6", end_of_interrupt)

# %%
chip, rows = Chip(irr=0b0100_0000, isr=0b0001_0000), []  # 6 requested, 4 in service
with trying():
    for command in (0x00, 0x66, 0x64):  # no end; the end of line 6; the end of line 4, at last
        end_of_interrupt(chip, command)
        rows.append((hex(command), f"{chip.isr:08b}", request(chip)))
    show(table(rows, ("command", "ISR", "next")))
reveal("6.f", 2, "for 4 stays in service, and holds up itself and all that are less urgent.")

# %% [markdown]
# ## 7 · Talking to the chip
#
# Two ports, a dozen meanings. A write with bit 4 to the command port (0) begins an initialization: **ICW1**. The next
# three to the data port (1) are **ICW2** (the base), **ICW3** (the wiring) and **ICW4**. At all other times the data
# port is the mask.
#
# **Predict.** A PC's firmware gives the master base 0x08. Why does every kernel move it?
#
# 1. IRQ0–7 look like exceptions there
# 2. it is slow
# 3. the slave sits there
#
# *Source: Intel 8259A datasheet, "Initialization Command Words"; SDM vol. 3, "Exception and Interrupt Vectors".*

# %%
predict("6.g", 3)

# %% [markdown]
# ### Task 06.7
# ![What a byte on the two ports means](img/lab06/words.svg)
#
# Complete `write`. ICW1 clears the mask and the edges in IRR (levels stay), and sets `read_isr` back; it may come at any
# time. OCW3 with bit 1 set sets `read_isr` to bit 0. In a PC ICW3 and ICW4 always come, and say nothing that we don't
# know.
#
# *Source: Intel 8259A datasheet, "Initialization Command Words", "Operation Command Words".*
#
# <details><summary>Hint 1: a nudge</summary>Five branches: three on the command port, two on the data port.</details>
# <details><summary>Hint 2: the idea</summary><code>chip.icw</code> says which word the data port takes: ICW1 makes it
# 2, each word one more, and after the fourth it is 0. ICW2 has five bits that count: <code>value &amp;
# 0xF8</code>.</details>
# <details><summary>Hint 3: nearly there</summary>Test bit 4 first, then bit 3; what is left is OCW2, for
# <code>end_of_interrupt</code>. On the data port <code>chip.icw = (chip.icw + 1) % 5</code>. The classic mistake takes
# ICW3 for the mask: line 2 is masked, and the slave is dumb.</details>


# %% exercise="06.7"
def write(chip, port: int, value: int) -> None:
    """The guest writes a byte to the command port (0) or the data port (1) of the chip."""
    ### BEGIN SOLUTION
    if port == 0 and value & 0x10:  # ICW1
        chip.icw, chip.imr, chip.irr, chip.read_isr = 2, 0, chip.irr & chip.elcr, False
    elif port == 0 and value & 0x08:  # OCW3
        chip.read_isr = bool(value & 1) if value & 2 else chip.read_isr
    elif port == 0:
        end_of_interrupt(chip, value)
    elif not chip.icw:
        chip.imr = value
    else:
        chip.base = value & 0xF8 if chip.icw == 2 else chip.base
        chip.icw = (chip.icw + 1) % 5
    ### END SOLUTION


# %% check="06.7"
check("06.7", write)

# %%
words = [(0, 0x11), (1, 0x30), (1, 0x04), (1, 0x01), (1, 0xFB)]  # what Linux tells the master
chip, rows = Chip(imr=0xFF), []
with trying():
    for port, value in words:
        write(chip, port, value)
        rows.append((hex(0x20 + port), f"{value:#04x}", f"{chip.imr:08b}", hex(chip.base), chip.icw))
    show(table(rows, ("to port", "byte", "IMR", "base", "next word")))
reveal("6.g", 1, "for the processor's own vectors end at 0x1F: vector 8 is the timer, or a double fault?")

# %% [markdown]
# ## 8 · Two chips
#
# Eight lines were too few. The AT got a second 8259, the **slave**, whose output is wired to line 2 of the first. So
# lines 8–15 come in between 1 and 3, and each of their interrupts needs two EOIs.
#
# **Predict.** Lines 3, 12 and 9 rise at the same moment. The order:
#
# 1. 3, 9, 12
# 2. 9, 12, 3
# 3. 3, 12, 9
#
# *Source: Intel 8259A datasheet, "Cascade Mode"; IBM PC/AT Technical Reference, "System Interrupts".*

# %%
predict("6.h", 1)

# %% [markdown]
# ### Task 06.8
# ![The slave's output is the master's line 2](img/lab06/cascade.svg)
#
# Complete `intr`: set the master's line 2 to what the slave's output is now, up or down. Then say whether the *master*
# pulls INTR. Two lines, with your `set_line` and `request`.
#
# *Source: Intel 8259A datasheet, "Cascade Mode".*
#
# <details><summary>Hint 1: a nudge</summary>A chip's output is up while <code>request</code> has a line.</details>
# <details><summary>Hint 2: the idea</summary>A wire has two levels, and the master waits for an edge: it must also see
# the wire *fall*. (8259A datasheet, "Cascade Mode")</details>
# <details><summary>Hint 3: nearly there</summary><code>set_line(master, 2, request(slave) is not None)</code>. The
# classic mistake is <code>bool(request(slave))</code>: line 8, the slave's number 0, is False.</details>


# %% exercise="06.8"
def intr(master, slave) -> bool:
    """Brings the wire between the chips up to date. True if the master wants to interrupt."""
    ### BEGIN SOLUTION
    set_line(master, 2, request(slave) is not None)
    return request(master) is not None
    ### END SOLUTION


# %% check="06.8"
check("06.8", intr)

# %% [markdown]
# ### Task 06.9
# Complete `inta`: acknowledge the master's request; if it is line 2, acknowledge the slave's, whose vector counts, and
# bring the wire up to date. Any `request` may be None, and `acknowledge` knows what to do.
#
# *Source: Intel 8259A datasheet, "Cascade Mode", "Interrupt Sequence".*
#
# <details><summary>Hint 1: a nudge</summary>You have all parts: <code>request</code>, <code>acknowledge</code>,
# <code>intr</code>.</details>
# <details><summary>Hint 2: the idea</summary>Both chips take part, for both must know what is in service. Once its line
# is in service the slave's output falls; if another is to follow, the master must see that.</details>
# <details><summary>Hint 3: nearly there</summary><code>vector = acknowledge(master, number)</code>; <code>if number ==
# 2: vector = acknowledge(slave, request(slave))</code>, then <code>intr(master, slave)</code>. The classic mistake
# leaves that call out: the wire stays up, and the slave's next request makes no edge.</details>


# %% exercise="06.9"
def inta(master, slave) -> int:
    """The processor acknowledges an interrupt. Returns the vector."""
    ### BEGIN SOLUTION
    number = request(master)
    vector = acknowledge(master, number)
    if number == 2:
        vector = acknowledge(slave, request(slave))
        intr(master, slave)
    return vector
    ### END SOLUTION


# %% check="06.9"
check("06.9", inta)

# %%
master, slave, order = Chip(base=0x20), Chip(base=0x28), []
with trying():
    set_line(master, 3, True), set_line(slave, 4, True), set_line(slave, 1, True)  # 3, 12 and 9
    while intr(master, slave):
        order.append(inta(master, slave) - 0x20)
        for chip in (slave, master) if order[-1] > 7 else (master,):
            end_of_interrupt(chip, 0x20)
    print("in this order:", order)
reveal("6.h", 2, "for the slave's lines come by line 2, which is more urgent than 3.")

# %% [markdown]
# ## 9 · When a guest takes one
#
# ![A request waits for the window, then goes in by KVM_INTERRUPT](img/lab06/window.svg)
#
# A real processor looks at INTR between any two instructions, if IF is 1. Yours runs inside KVM_RUN: you get a word in
# only at exits. `run.ready_for_interrupt_injection` says whether the guest would take an interrupt **now**.
#
# **Predict.** It would not: IF is 0. Then it says STI, and computes for a minute without an exit. Your interrupt comes:
#
# 1. at once: KVM waits for STI
# 2. a minute later
# 3. that is up to you
#
# *Source: KVM API 4.16, KVM_INTERRUPT; "5. The kvm_run structure", request_interrupt_window.*

# %%
predict("6.i", 1)

# %% [markdown]
# ### Task 06.10
# Complete `offer`, called before each entry. If there is a request and the guest is ready, hand over the vector:
# `ioctl(vcpu, KVM_INTERRUPT, struct("kvm_interrupt", irq=vector))`. While a request waits,
# `run.request_interrupt_window` must be 1, so that KVM comes back as soon as the guest would take it; else 0.
#
# *Source: KVM API 4.16, KVM_INTERRUPT; "5. The kvm_run structure".*
#
# <details><summary>Hint 1: a nudge</summary>KVM_INTERRUPT trusts you: it asks for no IF. Who must?</details>
# <details><summary>Hint 2: the idea</summary>One interrupt at most each time. Then ask <code>intr()</code> again: one
# more may wait behind it, and that one needs the window. (KVM API, <code>request_interrupt_window</code>)</details>
# <details><summary>Hint 3: nearly there</summary><code>if intr() and run.ready_for_interrupt_injection: …</code>, then
# <code>run.request_interrupt_window = intr()</code>. The classic mistake leaves it 1: KVM returns at once, for ever,
# and the guest stands still.</details>


# %% exercise="06.10"
def offer(vcpu: int, run, intr, inta) -> None:
    """Offers the guest an interrupt, or asks to be told when it would take one.

    intr() says whether one waits; inta() acknowledges it and returns the vector.
    """
    ### BEGIN SOLUTION
    if intr() and run.ready_for_interrupt_injection:
        ioctl(vcpu, KVM_INTERRUPT, struct("kvm_interrupt", irq=inta()))
    run.request_interrupt_window = intr()
    ### END SOLUTION


# %% check="06.10"
check("06.10", offer)

# %% [markdown]
# **The shadow of STI.** `ready…` is 0 for one instruction longer than IF is: what follows STI is safe. Kernels live on
# it: *look for work, STI, HLT*. Were the interrupt taken between the two, the guest would sleep with its work undone.
# The guest `sti-hlt` has just tested you on that.
#
# ### Task 06.11
# Complete `work`, the run loop. HLT with IF = 0 (`run.if_flag`) is the end. With IF = 1 the guest waits: if `intr()`
# has something, go on; else return "asleep", and whoever has a key for it calls `work` again.
#
# *Source: Intel SDM vol. 2, STI, HLT; KVM API, "5. The kvm_run structure".*
#
# <details><summary>Hint 1: a nudge</summary>Offer, enter, look why it stopped; again.</details>
# <details><summary>Hint 2: the idea</summary>Four reasons: KVM_EXIT_IO goes to <code>serve(run)</code>; KVM_EXIT_HLT
# has three outcomes; KVM_EXIT_IRQ_WINDOW_OPEN has done its work by bringing you back; anything else raises.</details>
# <details><summary>Hint 3: nearly there</summary><code>if not run.if_flag: return "halted"</code>; <code>if not intr():
# return "asleep"</code>. The classic mistake takes every HLT for the end.</details>


# %% exercise="06.11"
def work(go, vcpu: int, run, intr, inta, serve) -> str:
    """Runs the guest until it is "halted", or "asleep" with no interrupt to wake it.

    go() enters the guest until its next exit; serve(run) does a port access.
    Raises RuntimeError, with the exit reason in its text, for an exit that nobody handles.
    """
    ### BEGIN SOLUTION
    while True:
        offer(vcpu, run, intr, inta)
        go()
        if run.exit_reason == KVM_EXIT_IO:
            serve(run)
        elif run.exit_reason == KVM_EXIT_HLT:
            if not run.if_flag:
                return "halted"
            if not intr():
                return "asleep"
        elif run.exit_reason != KVM_EXIT_IRQ_WINDOW_OPEN:
            raise RuntimeError(f"nobody handles exit reason {run.exit_reason}")
    ### END SOLUTION


# %% check="06.11"
check("06.11", work)

# %%
def nested(write):
    """irq-nest on your chips: 5 rings at step 0, in its handler 7 and 3; 12 and 1 at step 1."""
    board = Board(globals() | {"write": write}, "irq-nest", nonce=7, count=2)
    board.bell = {0: [5], 0x85: [7, 3], 1: [12, 1]}
    print(board.work(), board.console, sep="\n")


with trying():
    nested(write)
    nested(lambda chip, port, value: value == 0x20 or write(chip, port, value))  # break it: no EOI
reveal("6.i", 3, "for without the window the vector waits for the next exit, whenever that is.")

# %% [markdown]
# `(5(33)5)` is a handler inside a handler: 3 is more urgent than 5, and 7 had to wait. Without EOI what has begun never
# ends: 7 and 12 wait for ever. Look there first when a machine "hangs after one key".
#
# A second way to break it: leave `ready_for_interrupt_injection` out of `offer`. The guest is interrupted inside its own
# CLI, where it felt safe; on Intel, KVM_RUN fails at once (KVM_EXIT_FAIL_ENTRY).
#
# ## 10 · A keyboard
#
# A key sends a byte as it goes down, and another as it goes up (the same, plus 0x80). The controller keeps it at port
# 0x60; bit 0 of port 0x64 says that one is there. IRQ1 calls the guest.
#
# **Predict.** Two keys are struck before the guest looks. IRQ1 went up with the first and is still up. The second:
#
# 1. comes by itself: the line is up
# 2. is lost unless the line falls in between
# 3. overwrites the first
#
# *Source: IBM PC/AT Technical Reference, "Keyboard Controller".*

# %%
predict("6.j", 1)

# %% [markdown]
# ### Task 06.12
# ![A byte, its edge, and the next byte's edge](img/lab06/keyboard.svg)
#
# Complete `read_keyboard`. Port 0x64: 1 if a byte waits, else 0. Port 0x60: take the first byte (0 if there is none),
# let the line fall, and raise it again if more wait.
#
# *Source: IBM PC/AT Technical Reference, "Keyboard Controller"; Intel 8259A datasheet, "Edge and Level Triggered
# Modes".*
#
# <details><summary>Hint 1: a nudge</summary>Looking at the status takes nothing away.</details>
# <details><summary>Hint 2: the idea</summary>IRQ1 is triggered by edge: a second request needs a second rise, and a
# rise needs a fall before it.</details>
# <details><summary>Hint 3: nearly there</summary><code>code = waiting.pop(0)</code>, <code>irq1(False)</code>,
# <code>if waiting: irq1(True)</code>. The classic mistake only lowers the line when the last byte is read: fast typists
# lose keys.</details>


# %% exercise="06.12"
def read_keyboard(waiting: bytearray, port: int, irq1) -> int:
    """The guest reads port 0x60 or 0x64; `waiting` are the bytes that the keyboard has for it.

    irq1(True) raises the keyboard's line, irq1(False) lowers it.
    """
    ### BEGIN SOLUTION
    if port == 0x64:
        return 1 if waiting else 0
    code = waiting.pop(0) if waiting else 0
    irq1(False)
    if waiting:
        irq1(True)
    return code
    ### END SOLUTION


# %% check="06.12"
check("06.12", read_keyboard)

# %%
def steer(keys):
    """Types to the guest `etch` and shows its screen. It draws where w, a, s and d lead its pen."""
    board.type(keys)
    print(board.work(), board.screen(), sep="\n")


with trying():
    board = Board(globals(), "etch", nonce=7)
    board.work()  # until it sleeps
    steer("dddssaaawwdddd")
reveal("6.j", 2, "for a line that stays up makes no second edge.")

# %% [markdown]
# **You are steering a guest.** It runs on your chips, is called through its own table, and sleeps while you think. Call
# `steer("…")` as often as you like: the same guest goes on. `"\x1b"` is Escape.
#
# ## 11 · The chips move into the kernel
#
# Each interrupt costs exits: two or more EOIs, a window, a HLT. KVM has the chips inside, too: **KVM_CREATE_IRQCHIP**,
# before the first vCPU. Then you only move lines.
#
# **Predict.** With KVM's chips the guest executes HLT, IF = 1. KVM_RUN …
#
# 1. returns KVM_EXIT_HLT
# 2. does not return
# 3. returns EAGAIN
#
# *Source: KVM API 4.24, KVM_CREATE_IRQCHIP; 4.38, KVM_GET_MP_STATE.*

# %%
show(predict("6.k", 1))
with trying():
    steer("wwaassd")  # the guest of section 10 still sleeps: it goes on

# %% [markdown]
# ### Task 06.13
# ![Chips in your process, and chips in the kernel](img/lab06/kernel.svg)
#
# Complete `strike`: line `irq` goes up and down once, by KVM_IRQ_LINE on the VM's handle. `struct kvm_irq_level` has
# `irq` and `level`.
#
# *Source: KVM API 4.25, KVM_IRQ_LINE.*
#
# <details><summary>Hint 1: a nudge</summary>KVM's chip sees edges as yours does.</details>
# <details><summary>Hint 2: the idea</summary>Two calls: level 1, level 0. The number is the line's; which vector that
# becomes, only the guest and the chip know. (KVM API 4.25)</details>
# <details><summary>Hint 3: nearly there</summary><code>ioctl(vm, KVM_IRQ_LINE, struct("kvm_irq_level", irq=irq,
# level=1))</code>, and again with 0. The classic mistake leaves the line up.</details>


# %% exercise="06.13"
def strike(vm: int, irq: int) -> None:
    """One edge on line `irq`, 0 to 15, of KVM's own interrupt chips."""
    ### BEGIN SOLUTION
    for level in (1, 0):
        ioctl(vm, KVM_IRQ_LINE, struct("kvm_irq_level", irq=irq, level=level))
    ### END SOLUTION


# %% check="06.13"
check("06.13", strike)

# %%
def etch_by(kernel):
    """Three keys for `etch`: its exits by name, and where it is afterwards."""
    board = Board(globals(), "etch", kernel=kernel, nonce=7)
    pause = (lambda: board.rest(0.2)) if kernel else board.work
    for key in "dds":
        pause(), board.type(key), strike(board.vm.fd, 1) if kernel else None
    return pause(), ", ".join(f"{number} × {name}" for name, number in board.exits.items())


with trying():
    rows = [("your chips", *etch_by(False)), ("KVM's chips", *etch_by(True))]
    show(table(rows, ("", "now", "exits")))
reveal("6.k", 2, "for KVM itself waits for the interrupt: no HLT comes out, and no port of the chips.")

# %% [markdown]
# That is why "HLT disappears": it has not failed, it has moved. A VMM with KVM's chips needs another sign that its
# guest sleeps (KVM_GET_MP_STATE says so), and another way in: a thread that strikes lines while KVM_RUN waits.
#
# **Break it.** Create the chips *after* the vCPU, and KVM refuses: EINVAL. Create them twice: EEXIST.
#
# ## Stretch
#
# Worth no points; each has its check. In a real PC, all three are there.
#
# ### Task 06.14: in turn
# With the command 0xA0 a handler ends its interrupt *and* makes its line the least urgent. Then line `chip.top`, a
# field of the chips that the check brings, goes first, and the others follow, round and round. Write `request` anew, for
# such a chip.
#
# *Source: Intel 8259A datasheet, "Automatic Rotation".*
#
# <details><summary>Hint 1: a nudge</summary>Nothing changes but the order in which you look.</details>
# <details><summary>Hint 2: the idea</summary>The nth most urgent line is <code>(chip.top + n) % 8</code>.</details>
# <details><summary>Hint 3: nearly there</summary>The loop of task 06.4, over these numbers. The classic mistake turns
# the requests and not what is in service.</details>


# %% exercise="06.14"
def fair_request(chip):
    """As `request`, for a chip whose most urgent line is chip.top."""
    ### BEGIN SOLUTION
    waiting = chip.irr & ~chip.imr
    for n in range(8):
        number = (chip.top + n) % 8
        if chip.isr >> number & 1:
            return None
        if waiting >> number & 1:
            return number
    return None
    ### END SOLUTION


# %% check="06.14"
check("06.14", fair_request)

# %% [markdown]
# ### Task 06.15: looking into the kernel
# KVM_GET_IRQCHIP fills a `struct kvm_irqchip`; its field `chip_id` says which chip is meant, 0 master or 1 slave, and
# `chip.pic` has the registers. Snapshots save them; you can compare your chip with KVM's.
#
# *Source: KVM API 4.26, KVM_GET_IRQCHIP.*
#
# <details><summary>Hint 1: a nudge</summary>One structure, in and out.</details>
# <details><summary>Hint 2: the idea</summary><code>struct("kvm_irqchip", chip_id=chip)</code>, on the VM's
# handle.</details>
# <details><summary>Hint 3: nearly there</summary><code>state.chip.pic.irr</code>, <code>.imr</code>, <code>.isr</code>,
# <code>.irq_base</code>. The classic mistake leaves <code>chip_id</code> at 0.</details>


# %% exercise="06.15"
def kernel_registers(vm: int, chip: int):
    """(irr, imr, isr, base) of KVM's own 8259: chip 0, the master, or 1."""
    ### BEGIN SOLUTION
    state = struct("kvm_irqchip", chip_id=chip)
    ioctl(vm, KVM_GET_IRQCHIP, state)
    pic = state.chip.pic
    return pic.irr, pic.imr, pic.isr, pic.irq_base
    ### END SOLUTION


# %% check="06.15"
check("06.15", kernel_registers)

# %% [markdown]
# ### Task 06.16: a watchdog
# A guest that hangs with IF = 0 hears no interrupt. The **NMI** gets through. Called after each exit, `watchdog`
# counts exits in a row with `run.if_flag` 0, and sends KVM_NMI (no structure) when there are `patience` of them; then
# it begins again.
#
# *Source: KVM API 4.64, KVM_NMI; Intel SDM vol. 3, "Nonmaskable Interrupt (NMI)".*
#
# <details><summary>Hint 1: a nudge</summary>The new count is the old one plus one, or 0.</details>
# <details><summary>Hint 2: the idea</summary>One exit with interrupts on proves that the guest is well.</details>
# <details><summary>Hint 3: nearly there</summary><code>ioctl(vcpu, KVM_NMI)</code> when the count reaches
# <code>patience</code>, and begin again at 0. The classic mistake never resets the count.</details>


# %% exercise="06.16"
def watchdog(vcpu: int, run, count: int, patience: int) -> int:
    """After an exit: `count` is what the last call returned, 0 at first. Returns the new count."""
    ### BEGIN SOLUTION
    if run.if_flag:
        return 0
    if count + 1 < patience:
        return count + 1
    ioctl(vcpu, KVM_NMI)
    return 0
    ### END SOLUTION


# %% check="06.16"
check("06.16", watchdog)

# %% [markdown]
# ## And on
#
# 1. Let `intr` and `inta` honour ICW4's *automatic EOI* (bit 1). Why does a kernel that nests handlers not want it?
# 2. Find out by `etch` how many exits a key costs with your chips, and which of them one could save.
# 3. `ioctl(vm, KVM_CREATE_IRQCHIP)` gives you an IOAPIC, too. Where, and with which lines? (Linux prefers it.)
