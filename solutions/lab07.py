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
# # Lab 07 · Time and scheduling
#
# A guest has no clock but those you give it. You build three: a counter, a timer, a page of memory. Then time becomes
# something to share: two VMs on one thread, and in the end three tasks in a kernel that takes the processor away from
# them, by your tick.
#
# In this lab **time passes only when a guest works**: it tells a port how long a piece takes. So everybody sees the same.

# %% [markdown]
# ## 1 · Counting down
#
# The 8254 of every PC has counters of 16 bits that go down by one at each of 1 193 182 ticks a second. What a counter
# does at the end, and with its output OUT, is its **mode**.
#
# **Predict.** A counter of mode 0 reaches 0. What does it hold one tick later?
#
# 1. 0
# 2. the count again
# 3. 0xFFFF

# %%
from minivmm.lab import *
from minivmm.lab_time import *

predict("7.a", 1)  # put your answer in place of the 1

# %% [markdown]
# ### Task 07.1
# ![OUT in the modes 0, 2 and 3, for a count of 6](img/lab07/modes.svg)
#
# **0**: OUT rises at 0 and stays; the counter goes on. **2**: from `count` down to 1, again and again; OUT is low while
# it holds 1. **3**: OUT high for the first half, low for the second; down by *two*, through the count in each half. An odd
# count: its high half is one tick longer, and the even number below it is where the counter starts.
#
# *Source: Intel 8254 datasheet (231164), "Mode Definitions".*
#
# <details><summary>Hint 1: a nudge</summary>Write down all values of mode 2 with a count of 3, then of mode 3 with a
# count of 5: 4, 2, 0, 4, 2.</details>
# <details><summary>Hint 2: the idea</summary>In a periodic mode only <code>into = elapsed % count</code> matters. A
# count of 0 means 65536, and what a guest reads has 16 bits. (8254 datasheet, "Mode 2", "Mode 3")</details>
# <details><summary>Hint 3: nearly there</summary>Mode 3: <code>high = (count + 1) // 2</code>, and behind
# <code>high</code> take <code>into - high</code>; the value is <code>(count &amp; ~1) - 2 * into</code>. The classic
# mistakes: mode 2 that reaches 0, mode 0 that stops there.</details>

# %% exercise="07.1"
def counter(mode: int, count: int, elapsed: int) -> tuple:
    """(value, out) of an 8254 counter, `elapsed` ticks after `count` was loaded.

    `mode` is 0, 2 or 3; `count` is 0 to 0xFFFF, where 0 means 65536. `value` is what a guest
    reads, 0 to 0xFFFF; `out` is a bool.
    """
    ### BEGIN SOLUTION
    count = count or 0x10000
    into = elapsed % count
    if mode == 0:
        return count - elapsed & 0xFFFF, elapsed >= count
    if mode == 2:
        return count - into & 0xFFFF, into != count - 1
    high = (count + 1) // 2
    down = into if into < high else into - high
    return (count & ~1) - 2 * down & 0xFFFF, into < high
    ### END SOLUTION


# %% check="07.1"
check("07.1", counter)

# %%
def wave(mode, count, ticks=36):
    moments = [counter(mode, count, tick) for tick in range(ticks)]
    picture = "".join("▔" if out else "▁" for _, out in moments)
    return mode, count, picture, [value for value, _ in moments[:9]]

with trying():
    rows = [wave(0, 12), wave(2, 12), wave(3, 12), wave(3, 11)]
    show(table(rows, ("mode", "count", "OUT", "values")))
    print("6 ticks look like", counter(3, 1000, 0)[0] - counter(3, 1000, 6)[0])  # Break it: as if mode 2
reveal("7.a", 3, "for it goes on counting: a guest can tell by how much its interrupt came late.")

# %% [markdown]
# ## 2 · Sixteen bits through a window of eight
#
# A port has eight bits, so a count goes low byte first, then high byte, both ways. But while a guest reads, the counter
# runs.
#
# **Predict.** The counter goes from 0x0200 to 0x01FF between the two reads. The guest puts together:
#
# 1. 0x0200
# 2. 0x01FF
# 3. 0x0100

# %%
predict("7.b", 1)

# %% [markdown]
# ### Task 07.2
# ![A latch keeps both bytes while the counter goes on](img/lab07/latch.svg)
#
# Fill the three methods. A control word has the mode in bits 1–2; both directions begin with a low byte again, and no
# latch is left. Is `word & 0x30` zero, then it is a **latch**: keep both bytes for the next two reads. While one waits,
# another is ignored. The count starts at its second byte; the byte behind that is the low one of a new count.
#
# *Source: Intel 8254 datasheet, "Control Word Format", "Counter Latch Command".*
#
# <details><summary>Hint 1: a nudge</summary>Which of the four fields changes in each method?</details>
# <details><summary>Hint 2: the idea</summary><code>latched</code> is a list: empty, or the bytes yet to be read,
# which <code>read</code> pops first. Without a latch each byte comes from the counter as it is at that moment. (8254
# datasheet, "Read Operations")</details>
# <details><summary>Hint 3: nearly there</summary><code>read</code>: <code>self.high = not self.high</code>
# <em>after</em> you have looked which half is due. The classic mistakes: the second latch replaces the first, and a
# control word that leaves a half-written count.</details>

# %% exercise="07.2"
class Counter:
    """Counter 0 of an 8254, read and written low byte first. `now()` is the present tick."""

    def __init__(self, now):
        self.now, self.mode, self.count, self.start = now, 0, 0, None  # start: the tick of the load
        self.low = None  # the low byte of a count whose high byte is to come
        self.high = False  # the next unlatched read is of the high byte
        self.latched = []  # the bytes that a latch keeps, low byte first

    def value(self) -> int:
        """What the counter holds now (0 before it was loaded)."""
        return 0 if self.start is None else counter(self.mode, self.count, self.now() - self.start)[0]

    def control(self, word: int) -> None:
        """A byte written to port 0x43: a mode, or a latch."""
        ### BEGIN SOLUTION
        if word & 0x30:
            self.mode, self.low, self.high, self.latched = word >> 1 & 3, None, False, []
        elif not self.latched:
            self.latched = [*self.value().to_bytes(2, "little")]
        ### END SOLUTION

    def write(self, byte: int) -> None:
        """A byte written to port 0x40: half a count."""
        ### BEGIN SOLUTION
        if self.low is None:
            self.low = byte
        else:
            self.count, self.start, self.low = byte << 8 | self.low, self.now(), None
        ### END SOLUTION

    def read(self) -> int:
        """A byte read from port 0x40: of the latch if there is one, else of the counter as it is."""
        ### BEGIN SOLUTION
        if self.latched:
            return self.latched.pop(0)
        shift = 8 if self.high else 0
        self.high = not self.high
        return self.value() >> shift & 0xFF
        ### END SOLUTION


# %% check="07.2"
check("07.2", Counter)

# %%
with trying():
    ports = PitPorts(Counter(lambda clock=(clock := WorkClock()): clock.now))
    print(play(TimedGuest("pit-reader", clock, devices=[ports], nonce=7)))
    print("count, latched, present: the guest waited before each of the two readings")
    pit = Counter(lambda: clock.now)  # Break it: no latch, and a tick between the two reads
    pit.control(0x34), pit.write(0x00), pit.write(0x02)
    low, _ = pit.read(), clock.work(1)
    print(f"read without a latch: {pit.read() << 8 | low:#06x}, and it was never that")
reveal("7.b", 3, "which the counter never held: its low byte is old, its high byte new.")

# %% [markdown]
# ## 3 · When is the next tick?
#
# Nobody can look at OUT after each tick: there are a million a second. A VMM **computes** when it rises next, and until
# then does something else. OUT of counter 0 is IRQ0.
#
# **Predict.** Linux asks for a tick each 4 ms. How often a second must your VMM look at the counter?
#
# 1. 250 times
# 2. 1 193 182 times
# 3. at each exit

# %%
predict("7.c", 1)

# %% [markdown]
# ### Task 07.3
# At which tick does OUT rise next? Mode 0 rises once. Modes 2 and 3 rise at each load of the count.
#
# *Source: Intel 8254 datasheet, "Mode Definitions".*
#
# <details><summary>Hint 1: a nudge</summary>Look at the picture of task 07.1: where does each wave go up?</details>
# <details><summary>Hint 2: the idea</summary>In the periodic modes the rises are at <code>count</code>, <code>2 *
# count</code>, and so on; you want the first that is <em>later</em> than <code>elapsed</code>. (8254 datasheet,
# figures 17 and 18)</details>
# <details><summary>Hint 3: nearly there</summary><code>(elapsed // count + 1) * count</code>. The classic mistake
# returns <code>elapsed</code> itself where it is a rise: a loop that waits for it never gets past.</details>

# %% exercise="07.3"
def next_rise(mode: int, count: int, elapsed: int):
    """The first tick later than `elapsed` at which OUT rises; ticks count from the load.

    None if it never rises again. Mode and count are as in `counter`.
    """
    ### BEGIN SOLUTION
    count = count or 0x10000
    if mode == 0:
        return count if elapsed < count else None
    return (elapsed // count + 1) * count
    ### END SOLUTION


# %% check="07.3"
check("07.3", next_rise)

# %%
def rises(mode, count, step=next_rise):
    found = [0]
    while len(found) < 9 and (tick := step(mode, count, found[-1])) is not None: found.append(tick)
    return mode, count, found[1:]

with trying():
    late = lambda *how: next_rise(*how[:2], how[2] - 1)  # Break it (last row): the same for ever
    rows = [rises(0, 12), rises(2, 12), rises(3, 11), rises(2, 12, step=late)]
    show(table(rows, ("mode", "count", "OUT rises at")))
reveal("7.c", 1, "for between two rises nothing happens that anybody could see.")

# %% [markdown]
# ## 4 · HLT until the next tick
#
# A guest with nothing to do says HLT, and wants to be woken. You get **KVM_EXIT_HLT**. A real VMM sleeps until its next
# timer; yours moves the clock there. Then comes the interrupt.
#
# **Predict.** After KVM_EXIT_HLT you call KVM_RUN again, without an interrupt. The guest:
#
# 1. sleeps on: HLT exits again
# 2. goes on behind its HLT
# 3. dies

# %%
predict("7.d", 1)

# %% [markdown]
# ### Task 07.4
# ![Run, serve, deliver what is due; at HLT move the clock](img/lab07/hlt.svg)
#
# Write the loop. `timer.next` is the tick of the next interrupt, or None; `timer.fire()` takes it and gives its vector,
# for KVM_INTERRUPT. Deliver what is due if the page says `ready_for_interrupt_injection`. Is more due, set
# `request_interrupt_window`. End at an HLT that nothing can end: no tick to come, or `if_flag` is 0.
#
# *Source: KVM API 4.16, KVM_INTERRUPT, and "5. The kvm_run structure"; Intel SDM vol. 2, HLT.*
#
# <details><summary>Hint 1: a nudge</summary>Three things happen at each turn: deliver, run, serve. Which of them does
# HLT replace?</details>
# <details><summary>Hint 2: the idea</summary>The tick may be due while the guest has its interrupts off. With
# <code>request_interrupt_window = 1</code> KVM comes back when it lets them in; with 0 it doesn't bother you. (KVM
# API, "5. The kvm_run structure")</details>
# <details><summary>Hint 3: nearly there</summary><code>ioctl(guest.fd, KVM_INTERRUPT, struct("kvm_interrupt",
# irq=timer.fire()))</code>. At HLT: <code>clock.now = max(clock.now, timer.next)</code>. The classic mistakes: a
# clock that runs backwards, and a window that stays requested.</details>

# %% exercise="07.4"
def run_timed(guest, timer) -> None:
    """Runs `guest` (a TimedGuest: fd, page, clock, serve) until it halts for good.

    `timer` interrupts it: `timer.next` is a tick of guest.clock or None, `timer.fire()` the vector.
    """
    page, clock = guest.page, guest.clock
    due = lambda: timer.next is not None and timer.next <= clock.now
    ### BEGIN SOLUTION
    while True:
        if due() and page.ready_for_interrupt_injection:
            ioctl(guest.fd, KVM_INTERRUPT, struct("kvm_interrupt", irq=timer.fire()))
        page.request_interrupt_window = due()
        ioctl(guest.fd, KVM_RUN)
        if page.exit_reason != KVM_EXIT_HLT:
            guest.serve(page)
        elif timer.next is None or not page.if_flag:
            return
        else:
            clock.now = max(clock.now, timer.next)
    ### END SOLUTION


# %% check="07.4"
check("07.4", run_timed)

# %%
def sleep(due, **parameters):
    guest = TimedGuest("tick-sleeper", nonce=7, **parameters)
    run_timed(guest, Ticks(due))
    return guest

with trying():
    print((guest := sleep([5000, 11000, 16000, 21000])).console)  # time, interrupts, a nonce's byte
    show(timeline([line for line in guest.exits if "0x3f8" not in line]))
    print(sleep([5000, 11000]).console)  # Break it: ticks run out, and the guest sleeps for ever
reveal("7.d", 2, "for KVM has left the instruction behind: to wake it or not is up to you.")

# %% [markdown]
# ## 5 · The timer in the processor
#
# ![A clock, divided, drives the current count down; at zero comes the vector](img/lab07/apic.svg)
#
# Each processor has a timer of its own in its **local APIC**: no ports, no shared line. Its registers are memory, at
# 0xFEE00000. Writing the initial count starts it.
#
# **Predict.** The divide register holds 0b1011. By how much is the clock divided?
#
# 1. 11
# 2. 1
# 3. 2048

# %%
predict("7.e", 1)

# %% [markdown]
# ### Task 07.5
# Divide bits 3, 1, 0 of `divide`: 000 by 2, 001 by 4, … 110 by 128, **111 by 1**. In `entry`, the timer's line of the
# local vector table, bit 17 says periodic and bit 16 masked: the counter runs, no interrupt comes.
#
# *Source: Intel SDM vol. 3, "APIC Timer", "Divide Configuration Register", "Local Vector Table".*
#
# <details><summary>Hint 1: a nudge</summary>How many steps has the counter made? All else follows from
# that.</details>
# <details><summary>Hint 2: the idea</summary><code>steps = elapsed // divisor</code>. One-shot: it stops at 0 and has
# fired once. Periodic: <code>steps // initial</code> times, and the count begins again from <code>initial</code>.
# (SDM vol. 3, "APIC Timer")</details>
# <details><summary>Hint 3: nearly there</summary><code>code = divide &amp; 3 | divide &gt;&gt; 1 &amp; 4</code>, and
# the divisor is <code>2 &lt;&lt; code</code>, but for 7. The classic mistake takes bit 2 along, which is
# reserved.</details>

# %% exercise="07.5"
def apic_timer(initial: int, divide: int, entry: int, elapsed: int) -> tuple:
    """(current count, interrupts so far), `elapsed` clocks after `initial` was written.

    `divide` and `entry` are the registers as the guest wrote them. An `initial` of 0 stops the
    timer: (0, 0).
    """
    ### BEGIN SOLUTION
    code = divide & 3 | divide >> 1 & 4
    steps = elapsed // (1 if code == 7 else 2 << code)
    if not initial:
        return 0, 0
    if entry >> 17 & 1:
        current, fired = initial - steps % initial, steps // initial
    else:
        current, fired = max(initial - steps, 0), int(steps >= initial)
    return current, 0 if entry >> 16 & 1 else fired
    ### END SOLUTION


# %% check="07.5"
check("07.5", apic_timer)

# %%
def apic(**parameters):
    page = ApicPage(clock := WorkClock(), apic_timer)
    guest = TimedGuest("apic-ticker", clock, memory_mapped=[page], nonce=0x2BDC545D6B4B87, **parameters)
    run_timed(guest, page)
    return guest.console

with trying():
    for name, entry in (("one-shot", 0x40), ("periodic", 0x20040), ("Break it: masked", 0x30040)):
        print(f"{name}: current count, interrupts", apic(option=0x170B, value=entry), sep="\n")
reveal("7.e", 2, "for its bits 3, 1, 0 are 111: the code in which 1 was forgotten, and got the last place.")

# %% [markdown]
# ## 6 · A page that tells the time
#
# Reading a clock by an exit costs microseconds. **kvmclock** puts into guest memory what was the time at some TSC, and
# how fast the TSC runs. The guest does the rest, without you: *ns = system_time + (((tsc − tsc_timestamp) << shift) ×
# mul >> 32)*.
#
# **Predict.** You write the new page in one go while the guest reads. What can go wrong?
#
# 1. nothing
# 2. it gets a time that never was
# 3. it crashes

# %%
predict("7.f", 1)

# %% [markdown]
# ### Task 07.6
# ![Odd, then the fields, then even: a reader that sees a change tries again](img/lab07/version.svg)
#
# The reader takes the version, then the fields, then the version again: odd or changed, and it starts over. Your part:
# **odd first, the fields, even last**. Layout: `version` 4 bytes, 4 of padding, `tsc_timestamp` 8, `system_time` 8, `mul` 4,
# `shift` 1 (signed). The version has 32 bits: behind 0xFFFFFFFE comes 0.
#
# *Source: Linux, Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW.*
#
# <details><summary>Hint 1: a nudge</summary>How many times does <code>write</code> have to be called, at the least? A
# long write isn't one step: a guest may look in its middle.</details>
# <details><summary>Hint 2: the idea</summary>Three writes: the odd version; all fields behind it, in one piece; the
# even version. <code>struct.pack("&lt;I", n)</code> makes 4 bytes, low byte first. The version has 32 bits. (msr.rst:
# odd means "in progress")</details>
# <details><summary>Hint 3: nearly there</summary><code>write(gpa + 8, struct.pack("&lt;QQIb", tsc, ns, mul,
# shift))</code> between <code>version + 1</code> and <code>version + 2</code>. The classic mistake writes the fields
# first: then the old version vouches for them.</details>

# %% exercise="07.6"
from struct import pack


def publish(write, gpa: int, version: int, tsc: int, ns: int, mul: int, shift: int) -> int:
    """Publishes a `struct pvclock_vcpu_time_info` at `gpa`, by calls of write(gpa, bytes).

    The page there has the even `version`. Returns the version that it has afterwards, version + 2.
    """
    ### BEGIN SOLUTION
    write(gpa, pack("<I", version + 1 & 0xFFFF_FFFF))
    write(gpa + 8, pack("<QQIb", tsc, ns, mul, shift))
    write(gpa, pack("<I", version + 2 & 0xFFFF_FFFF))
    return version + 2 & 0xFFFF_FFFF
    ### END SOLUTION


# %% check="07.6"
check("07.6", publish)

# %%
def read_while(publisher):
    """A guest reads slowly. Pages of one clock are published as slowly: 8 bytes, and a rest."""
    guest = TimedGuest("clock-reader", WorkClock(1_000_000), nonce=7, address=0x9000)
    publisher(guest.write, 0x9000, 0, 990_000, 90_000, 1 << 31, 1)

    def slowly(gpa, data):
        for at in range(0, len(data), 8):
            guest.write_later(gpa + at, data[at : at + 8])
            guest.write_later(0x9100, bytes(16))  # rests: nobody looks there

    for n in range(1, 7):
        publisher(slowly, 0x9000, 2 * n, 991_000 + 1000 * n, 91_000 + 1000 * n, 1 << 31, 1)
    return [int(line, 16) for line in play(guest).split()]

def careless(write, gpa, version, tsc, ns, mul, shift):  # Break it: in one go, never odd
    write(gpa, pack("<IIQQIb", version + 2, 0, tsc, ns, mul, shift))

with trying():
    print("in order:  ", read_while(publish), "\ncarelessly:", read_while(careless), "runs back")
reveal("7.f", 2, "with the new tsc_timestamp and the old system_time, say: seconds off, once a week.")

# %% [markdown]
# ## 7 · A slice of time
#
# Two VMs, one thread. A guest that never leaves by itself must be interrupted: by a signal, and by
# **immediate_exit** for the moment just before KVM_RUN. With 1 in that field, KVM_RUN gives EINTR at once.
#
# **Predict.** After that EINTR, `immediate_exit` is:
#
# 1. still 1
# 2. 0 again

# %%
predict("7.g", 1)

# %% [markdown]
# ### Task 07.7
# ![The alarm sets immediate_exit; the next KVM_RUN gives EINTR](img/lab07/slice.svg)
#
# Run a guest for one slice. `clock.set(ticks, function)` calls the function when the time is over, `clock.cancel()`
# calls it off. `ioctl` raises `KvmError`, with `error.errno`. Leave nothing behind for the next slice: neither an
# alarm nor the 1.
#
# *Source: KVM API 4.10, KVM_RUN, and "5. The kvm_run structure", immediate_exit.*
#
# <details><summary>Hint 1: a nudge</summary>There are two ways out. What must be tidied up on each?</details>
# <details><summary>Hint 2: the idea</summary>The alarm can only leave a note: <code>page.immediate_exit = 1</code>,
# by <code>setattr</code> in a lambda. The loop finds it at its next KVM_RUN, as an exception whose errno is EINTR.
# (KVM API, immediate_exit)</details>
# <details><summary>Hint 3: nearly there</summary><code>try: ioctl(…)</code>, <code>except KvmError as error:</code>,
# look at <code>error.errno</code>: EINTR ends the slice, anything else is raised again. The classic mistakes: no
# <code>clock.cancel()</code> where the guest halts; a look at the clock between exits in place of the alarm.</details>

# %% exercise="07.7"
import errno


def run_slice(guest, clock, ticks: int) -> bool:
    """Runs `guest` for about `ticks`. True if it has halted, False if its time is over.

    The guest may make no exit for as long as it likes. A KVM_RUN that fails otherwise than with
    EINTR raises its KvmError.
    """
    page = guest.page
    ### BEGIN SOLUTION
    page.immediate_exit = 0
    clock.set(ticks, lambda: setattr(page, "immediate_exit", 1))
    while True:
        try:
            ioctl(guest.fd, KVM_RUN)
        except KvmError as error:
            if error.errno != errno.EINTR:
                raise
            return False
        if page.exit_reason == KVM_EXIT_HLT:
            clock.cancel()
            return True
        guest.serve(page)
    ### END SOLUTION


# %% check="07.7"
check("07.7", run_slice)

# %%
import threading

with trying():
    worker = TimedGuest("worker", clock := WorkClock(), nonce=7)
    while not run_slice(worker, clock, 400):
        print(f"tick {clock.now:5}  {worker.console}")
(machine := Machine()).load_guest(guests.load("spinner"), nonce=7)
threading.Timer(0.1, machine.vcpu.kick).start()  # the real thing: no exit at all, so a signal
print(machine.vcpu.run(), machine.vcpu.run(), sep=", then ")
reveal("7.g", 1, "for KVM reads it and never writes it: forget to clear it, and the guest stands still.")

# %% [markdown]
# ## 8 · Fair shares
#
# Taking turns seems fair. But a slice ends at an exit, and some exits take long: one guest always overruns.
#
# **Predict.** Slices of 300 ticks. A's pieces of work take 20 ticks, B's 700. In turn, B gets:
#
# 1. half of the time
# 2. about two thirds
# 3. about a third

# %%
predict("7.h", 1)

# %% [markdown]
# ### Task 07.8
# ![Whoever ran least is next; the others' wait is stolen time](img/lab07/share.svg)
#
# Always choose the VM that has **run least** and hasn't halted, for `ticks` ticks, until all have. Keep the books:
# `vm.ran` and `vm.stolen`, in ticks. **Stolen** is the time in which a VM wanted to run and another did.
#
# *Source: Linux, Documentation/scheduler/sched-design-CFS.rst (the idea of the least run time); KVM x86 msr.rst,
# MSR_KVM_STEAL_TIME.*
#
# <details><summary>Hint 1: a nudge</summary>Who wants to run: all VMs, or all but those that have halted?</details>
# <details><summary>Hint 2: the idea</summary><code>run(vm, ticks)</code> says how long it really was. That goes to
# one VM as <code>ran</code>, to each other that is awake as <code>stolen</code>. (msr.rst: time in which the vCPU did
# not run "while it was runnable")</details>
# <details><summary>Hint 3: nearly there</summary><code>awake = [vm for vm in vms if not vm.halted]</code>, then
# <code>min(awake, key=lambda vm: vm.ran)</code>. The classic mistakes: the length of a slice in the books, and stolen
# time for those who sleep.</details>

# %% exercise="07.8"
def share(vms: list, ticks: int, run) -> None:
    """Shares one thread fairly among `vms` until all have halted.

    Each has .ran, .stolen (ticks, 0 at first) and .halted. run(vm, ticks) runs one slice, sets
    vm.halted where the guest ended, and returns the ticks that it took, more or less than asked.
    """
    ### BEGIN SOLUTION
    while awake := [vm for vm in vms if not vm.halted]:
        chosen = min(awake, key=lambda vm: vm.ran)
        took = run(chosen, ticks)
        chosen.ran += took
        for vm in awake:
            if vm is not chosen:
                vm.stolen += took
    ### END SOLUTION


# %% check="07.8"
check("07.8", share)

# %%
from types import SimpleNamespace

def two_guests(scheduler):
    clock, picture = WorkClock(), []

    def new(**how):
        guest = TimedGuest("worker", clock, nonce=7, option=0, **how)
        return SimpleNamespace(guest=guest, ran=0, stolen=0, halted=False)

    a, b = new(count=210, value=20), new(count=6, value=700)

    def run(vm, ticks):
        before, vm.halted = clock.now, run_slice(vm.guest, clock, ticks)
        picture.append(("a" if vm is a else "b") * ((clock.now - before + 99) // 100))
        return clock.now - before

    scheduler([a, b], 300, run)
    print("".join(picture), f"\na ran {a.ran}, lost {a.stolen};  b ran {b.ran}, lost {b.stolen}")

def in_turn(vms, ticks, run):  # Break it: the obvious scheduler. Count the letters while both run.
    while awake := [vm for vm in vms if not vm.halted]:
        for vm in awake:
            vm.ran += run(vm, ticks)

with trying():
    two_guests(share)
    two_guests(in_turn)
reveal("7.h", 2, "700 of each 1000 ticks: who holds the processor longest is rewarded.")

# %% [markdown]
# ## 9 · Telling the guest
#
# A guest sees its work take twice the time, and blames itself: watchdogs bark, load averages lie. KVM tells it by one
# more page: how many ns it **wanted to run and could not**. In `top`, that is `st`.
#
# **Predict.** A guest sleeps in HLT while another VM runs. Its steal time:
#
# 1. grows
# 2. stays

# %%
predict("7.i", 1)

# %% [markdown]
# ### Task 07.9
# The same protocol, another layout: `steal` 8 bytes at +0, `version` 4 bytes **at +8**. Leave the other bytes alone.
#
# *Source: Linux, Documentation/virt/kvm/x86/msr.rst, MSR_KVM_STEAL_TIME.*
#
# <details><summary>Hint 1: a nudge</summary>Take <code>publish</code> and move two things.</details>
# <details><summary>Hint 2: the idea</summary>Odd version, steal, even version: the order of the writes counts, not
# the order of the addresses. (msr.rst, "version")</details>
# <details><summary>Hint 3: nearly there</summary><code>write(gpa + 8, pack("&lt;I", version + 1))</code> comes first,
# <code>write(gpa, pack("&lt;Q", stolen))</code> second. The classic mistake keeps the version at +0.</details>

# %% exercise="07.9"
def publish_steal(write, gpa: int, version: int, stolen: int) -> int:
    """Publishes `stolen` (ns) in the `struct kvm_steal_time` at `gpa`, by calls of write(gpa, bytes).

    The page there has the even `version`. Returns the version that it has afterwards, version + 2.
    """
    ### BEGIN SOLUTION
    write(gpa + 8, pack("<I", version + 1 & 0xFFFF_FFFF))
    write(gpa, pack("<Q", stolen))
    write(gpa + 8, pack("<I", version + 2 & 0xFFFF_FFFF))
    return version + 2 & 0xFFFF_FFFF
    ### END SOLUTION


# %% check="07.9"
check("07.9", publish_steal)

# %%
def robbed(by):
    clock, version = WorkClock(), 0  # `by`: what others take between two slices
    guest = TimedGuest("steal-reader", clock, nonce=7, address=0x9000, count=6)
    while not run_slice(guest, clock, 500):
        version = publish_steal(guest.write, 0x9000, version, (version // 2 + 1) * by)
    return guest.console

with trying():
    print("alone:", robbed(0), "in company:", robbed(1000), sep="\n")
reveal("7.i", 2, "for who sleeps loses nothing. Wanting to run is what counts.")

# %% [markdown]
# ## 10 · The kernel that takes it back
#
# ![Three stacks; the tick saves one and goes on with the next](img/lab07/tasks.svg)
#
# Now the guest itself schedules. `three-tasks` is a kernel of eighty lines: three tasks in endless work, none of which
# ever yields. Only IRQ0 can part them. Read its handler.
#
# **Predict.** You never deliver IRQ0. What is printed?
#
# 1. nothing
# 2. A's work only
# 3. A, B and C in turn

# %%
source = guests.load("three-tasks").source
print(source[source.index("tick:") : source.index("task:  ")])
predict("7.j", 1)

# %% [markdown]
# ### Task 07.10
# Make a timer of your counter. `next` is the tick of the first rise behind `seen`, the tick at which the last one was
# taken; ticks of the clock, not of the load. `fire` takes it, at the present, so missed ticks are one.
#
# *Source: Intel 8254 datasheet, "Mode 2: Rate Generator"; IBM PC/AT Technical Reference, "System Interrupts".*
#
# <details><summary>Hint 1: a nudge</summary><code>next_rise</code> counts from the load. Which field says when that
# was?</details>
# <details><summary>Hint 2: the idea</summary><code>self.start + next_rise(mode, count, self.seen -
# self.start)</code>. But a count may be loaded after <code>seen</code>, or never. (8254 datasheet: a counter without
# a count does nothing)</details>
# <details><summary>Hint 3: nearly there</summary><code>max(self.seen - self.start, 0)</code>; None where
# <code>start</code> or the rise is None; <code>fire</code> sets <code>self.seen = self.now()</code> and returns 8.
# The classic mistake forgets <code>seen</code>, and the same tick comes for ever.</details>

# %% exercise="07.10"
class PitTimer(Counter):
    """A Counter that is a timer for `run_timed`. IRQ0 has vector 8, as in real mode."""

    def __init__(self, now):
        super().__init__(now)
        self.seen = now()  # the tick at which a rise was last taken

    @property
    def next(self):
        """The tick of the first rise that was not taken yet; None if there is none to come."""
        ### BEGIN SOLUTION
        if self.start is None:
            return None
        rise = next_rise(self.mode, self.count, max(self.seen - self.start, 0))
        return None if rise is None else self.start + rise
        ### END SOLUTION

    def fire(self) -> int:
        """Takes all rises up to the present, as one. Returns the vector, 8."""
        ### BEGIN SOLUTION
        self.seen = self.now()
        return 8
        ### END SOLUTION


# %% check="07.10"
check("07.10", PitTimer)

# %%
def kernel(period, timer=None):
    pit = PitTimer(lambda clock=(clock := WorkClock()): clock.now)
    guest = TimedGuest("three-tasks", clock, devices=[PitPorts(pit)], nonce=7, count=20, value=period)
    run_timed(guest, timer or pit)
    return f"{period:6}", guest.console, f"{clock.now} ticks"

with trying():
    rows = [kernel(300), kernel(1200), kernel(5000), kernel(1200, Ticks([]))]  # Break it: no tick
    show(table(rows, ("period", "who worked", "")))
reveal("7.j", 2, "and when A has done its work it sleeps: B and C never hear that they could go on.")

# %% [markdown]
# You have built what is in every kernel's heart: a tick, a saved stack, the next one. With KVM's own timers
# (KVM_CREATE_PIT2, an irqchip in the kernel) your counters and the loop of task 07.4 vanish into the host, and HLT never
# comes out to you.
#
# ## Stretch
#
# Checked as well, and worth no points. *Sources: KVM x86 msr.rst; 8254 datasheet, "Read-Back Command"; KVM API 4.71,
# KVM_CREATE_PIT2.*
#
# ### 07.11 · From kHz to mul and shift
# `mul` and `shift` of kvmclock, for a TSC of any rate: *ns = (ticks << shift) × mul >> 32*; a negative
# shift is one to the right. The highest bit of `mul` is set, so that no precision is lost.
#
# <details><summary>Hint 1: a nudge</summary>At 1 GHz a tick is 1 ns: <code>mul</code> would be 2**32, one bit too
# many.</details>
# <details><summary>Hint 2: the idea</summary>Doubling <code>mul</code> and taking one from <code>shift</code> changes
# nothing but the precision. (msr.rst, tsc_to_system_mul)</details>
# <details><summary>Hint 3: nearly there</summary>Begin with shift 0 and <code>(10**6 &lt;&lt; 32) // khz</code>; move
# the shift until <code>mul</code> lies in [2**31, 2**32). The classic mistake shifts the rounded
# <code>mul</code>.</details>

# %% exercise="07.11"
def clock_scale(khz: int) -> tuple:
    """(mul, shift) for a TSC of `khz` kHz; mul from 2**31 up to 2**32 - 1."""
    ### BEGIN SOLUTION
    shift = 0
    while (10**6 << 32) >> shift >= khz << 32:
        shift += 1
    while (10**6 << 32 - shift) // khz < 1 << 31:
        shift -= 1
    return (10**6 << 64) // khz >> 32 + shift, shift
    ### END SOLUTION


# %% check="07.11"
check("07.11", clock_scale)

# %% [markdown]
# ### 07.12 · The status byte
# The 8254's read-back command gives a counter's state: OUT in bit 7, **null count** in bit 6 (1 until it is loaded), access
# (3 here) in bits 4–5, the mode in bits 1–3. Before the load OUT is low in mode 0, high in 2 and 3.
#
# <details><summary>Hint 1: a nudge</summary>One of the two upper bits you have in <code>counter</code>
# already.</details>
# <details><summary>Hint 2: the idea</summary><code>elapsed</code> is None: nothing to ask <code>counter</code> about.
# (8254 datasheet, "Read-Back Command")</details>
# <details><summary>Hint 3: nearly there</summary><code>out &lt;&lt; 7 | null &lt;&lt; 6 | 0x30 | mode &lt;&lt;
# 1</code>.</details>

# %% exercise="07.12"
def status(mode: int, count: int, elapsed) -> int:
    """The status byte, `elapsed` ticks after `count` was loaded; None: not loaded yet."""
    ### BEGIN SOLUTION
    null = elapsed is None
    out = mode != 0 if null else counter(mode, count, elapsed)[1]
    return out << 7 | null << 6 | 0x30 | mode << 1
    ### END SOLUTION


# %% check="07.12"
check("07.12", status)

# %% [markdown]
# ### 07.13 · No tick is lost
# Old kernels count ticks to know the time. `PitTimer` drops those that come while interrupts are off, as a PC does. KVM
# **reinjects** them, one by one. Do the same.
#
# <details><summary>Hint 1: a nudge</summary>One line of <code>PitTimer</code> decides how many rises a
# <code>fire</code> takes.</details>
# <details><summary>Hint 2: the idea</summary><code>seen</code> moves to the rise that is taken, not to the present.
# (KVM API, KVM_REINJECT_CONTROL)</details>
# <details><summary>Hint 3: nearly there</summary><code>self.seen = self.next</code>: the property is asked before the
# assignment.</details>

# %% exercise="07.13"
class PatientTimer(PitTimer):
    """A PitTimer that loses no tick: each `fire` takes one rise, the oldest that was not taken."""

    def fire(self) -> int:
        """Takes one rise. Returns the vector, 8."""
        ### BEGIN SOLUTION
        self.seen = self.next
        return 8
        ### END SOLUTION


# %% check="07.13"
check("07.13", PatientTimer)

# %% [markdown]
# ### 07.14 · Shares by weight
# One customer pays twice as much: `vm.weight` says how large a VM's share is. `stolen` needs no books here.
#
# <details><summary>Hint 1: a nudge</summary>Whose time should go by more slowly?</details>
# <details><summary>Hint 2: the idea</summary>Linux calls it virtual run time: real time divided by weight.
# (sched-design-CFS.rst)</details>
# <details><summary>Hint 3: nearly there</summary><code>min(awake, key=lambda vm: vm.ran /
# vm.weight)</code>.</details>

# %% exercise="07.14"
def share_by_weight(vms: list, ticks: int, run) -> None:
    """As `share`, but a VM of weight 2 gets twice the time of one of weight 1. `ran` stays in ticks."""
    ### BEGIN SOLUTION
    while awake := [vm for vm in vms if not vm.halted]:
        chosen = min(awake, key=lambda vm: vm.ran / vm.weight)
        chosen.ran += run(chosen, ticks)
    ### END SOLUTION


# %% check="07.14"
check("07.14", share_by_weight)
