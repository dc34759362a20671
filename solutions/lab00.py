# %% [markdown]
# # Lab 00 · What is a virtual machine?
#
# In an hour you will build a machine out of nothing, find the hole in x86 that vexed hypervisors for decades, and run
# your first guest. Each task is one function; `check` tells you how you did.
#
# ## 1 · A machine made of software
#
# ![two kinds of virtual machine](img/lab00/two-kinds.svg)
#
# A **virtual machine** gives the layer above exactly the interface it expects: a *process* VM to one program (Java's is
# a stack machine, like ours), a *system* VM to a whole operating system.
#
# **Predict.** A 16-bit word holds 0 to 65535. In such words, 5 − 7 is:
#
# 1. −2
# 2. 65534
# 3. 0
# 4. an error

# %%
from minivmm.lab import *

predict("1.a", 1)  # put your answer in place of the 1

# %% [markdown]
# ### Task 00.1
# Complete `compute`: four instructions on a stack of 16-bit words. An instruction that can't be done is a **fault**: it
# says why, and leaves everything as it was, so that it could be tried again.
#
# *Source: Java VM Specification, §2.6.2 "Operand Stacks"; Intel SDM vol. 3, "Exception Classifications".*
#
# <details><summary>Hint 1: a nudge</summary>What is the largest word that 16 bits hold, and what follows it?</details>
# <details><summary>Hint 2: the idea</summary>Arithmetic is modulo 2¹⁶: <code>x % 0x10000</code> also brings negative
# numbers back. Look whether there is enough on the stack before you take anything.</details>
# <details><summary>Hint 3: nearly there</summary><code>top, below = stack.pop(), stack.pop()</code>, then push
# <code>(below - top) % 0x10000</code>. The classic mistake is <code>top - below</code>.</details>

# %% exercise="00.1"
def compute(op, argument, stack):
    """Does PUSH, DUP, ADD or SUB on a list of words 0 to 0xFFFF, the top of the stack at its end.

    PUSH puts the word `argument` on top, DUP copies the top, SUB is the word below minus the top.
    Returns "", or why not: "underflow" (too few words) or "unknown"; then `stack` is unchanged.
    """
    words_needed = {"PUSH": 0, "DUP": 1, "ADD": 2, "SUB": 2}
    ### BEGIN SOLUTION
    if op not in words_needed:
        return "unknown"
    if len(stack) < words_needed[op]:
        return "underflow"
    word = argument if op == "PUSH" else stack[-1] if stack else 0
    if op in ("ADD", "SUB"):
        top, below = stack.pop(), stack.pop()
        word = below + top if op == "ADD" else below - top
    stack.append(word % 0x10000)
    return ""
    ### END SOLUTION

# %% check="00.1"
check("00.1", compute)

# %%
tries = [("SUB", [5, 7]), ("ADD", [40000, 40000]), ("DUP", [3])]
# Break it: only one word to add. The fault has a name, and the word is still there.
tries += [("ADD", [1])]
rows = [(op, list(stack), try_out(compute, op, 0, stack), stack) for op, stack in tries]
show(table(rows, ("instruction", "stack before", "fault", "stack after")))
reveal("1.a", 2, "words wrap around: 65534 is what 16 bits can hold of −2.")

# %% [markdown]
# ## 2 · The exit
#
# A CPU computes by itself, but it can't print: it stops, and says what it wants. Such a stop is an **exit**, the most
# important word of this course. `OUT 1` hands the top word to **port** 1, the address of a device. `JNZ 1` pops a word, and jumps
# to instruction 1 (the first is 0) unless the word is 0.
#
# **Predict.** `PUSH 3; DUP; OUT 1; PUSH 1; SUB; DUP; JNZ 1; HALT` prints 3, 2, 1. How many exits?
#
# 1. one
# 2. three
# 3. four
# 4. eight

# %%
from dataclasses import dataclass, field

@dataclass
class Cpu:
    program: list  # pairs: what to do, and its argument
    pc: int = 0  # the program counter: the number of the next instruction
    stack: list = field(default_factory=list)

predict("2.a", 1)

# %% [markdown]
# ![run until exit](img/lab00/exit-loop.svg)
#
# ### Task 00.2
# Complete the inside of the loop: `HALT`, `IN` and `OUT` are exits, `JNZ` jumps, `compute` does the rest; a fault of
# `compute` becomes the exit `TRAP`. KVM has one call of just this shape, `KVM_RUN`.
#
# *Source: KVM API 4.10, "KVM_RUN".*
#
# <details><summary>Hint 1: a nudge</summary>Where should the CPU go on after an <code>OUT</code>? And after a
# trap?</details>
# <details><summary>Hint 2: the idea</summary>Move <code>cpu.pc</code> on before you leave, or the same
# <code>OUT</code> happens for ever; but a trap points at the culprit, so that someone can look at it.</details>
# <details><summary>Hint 3: nearly there</summary><code>cpu.pc += 1</code> first of all; <code>cpu.pc -= 1</code>
# before <code>return "TRAP", why</code>. The classic mistake: <code>JNZ</code> must <em>pop</em> the word that it
# looks at.</details>

# %% exercise="00.2"
def run_cpu(cpu, compute):
    """Runs until an exit: ("HALT", "IN" or "OUT", argument) with pc behind it, or ("TRAP", why)
    with pc at the culprit. An exit leaves the stack alone: that is for whoever handles it.

    JNZ pops a word, and jumps to instruction `argument` unless the word is 0.
    JNZ and OUT always find a word (stretch: make them trap).
    """
    while cpu.pc < len(cpu.program):
        op, argument = cpu.program[cpu.pc]
        ### BEGIN SOLUTION
        cpu.pc += 1
        if op in ("HALT", "IN", "OUT"):
            return op, argument
        if op == "JNZ":
            cpu.pc = argument if cpu.stack.pop() else cpu.pc
        elif why := compute(op, argument, cpu.stack):
            cpu.pc -= 1
            return "TRAP", why
        ### END SOLUTION
    return "TRAP", "no instruction"

# %% check="00.2"
check("00.2", run_cpu)

# %%
def assemble(text):
    words = [line.split() for line in text.split(";")]
    return [(word[0], int(word[1]) if word[1:] else 0) for word in words]

countdown = assemble("PUSH 3; DUP; OUT 1; PUSH 1; SUB; DUP; JNZ 1; HALT")
cpu = Cpu(countdown)
show(timeline([try_out(run_cpu, cpu, compute) for _ in range(4)]))
# Break it: one word is too few for ADD. Only this guest stops; your notebook runs on.
show(try_out(run_cpu, Cpu(assemble("PUSH 1; ADD")), compute))
reveal("2.a", 3, "one for each OUT and one for HALT; the arithmetic in between costs no exit.")

# %% [markdown]
# ## 3 · The one who answers
#
# Whoever handles the exits makes the guest's world: what a port is, what time it is, whether there is a disk. That is
# the **virtual machine monitor** (VMM), or hypervisor.
#
# **Predict.** A guest reads a port where no device is. It gets:
#
# 1. zero
# 2. a trap
# 3. all ones
# 4. nothing; it waits

# %%
predict("3.a", 1)

# %% [markdown]
# ![the monitor and its devices](img/lab00/monitor.svg)
#
# ### Task 00.3
# Complete `monitor`. `run(cpu)` gives the next exit. For `OUT` you pop the guest's word and write it to the device; for
# `IN` you push the device's answer. Nobody home? On a PC the wires float high, so a read sees all ones.
#
# *Source: KVM API 5, "The kvm_run structure", KVM_EXIT_IO; chipset datasheets, "Master Abort".*
#
# <details><summary>Hint 1: a nudge</summary>Four things can come out of <code>run</code>. Two of them end the
# guest.</details>
# <details><summary>Hint 2: the idea</summary>A write that nobody takes still uses up its word: pop first, then ask
# who owns the port. <code>budget</code> counts exits, so <code>for _ in range(budget)</code> is your loop.</details>
# <details><summary>Hint 3: nearly there</summary><code>cpu.stack.append(ports[port].read() if port in ports else
# 0xFFFF)</code>. The classic mistake is to answer 0: the guest then finds devices that aren't there.</details>

# %% exercise="00.3"
def monitor(cpu, run, ports, budget=1000):
    """Serves at most `budget` exits of `run(cpu)`. Returns the HALT or TRAP that ends the guest,
    as it came, or ("BUDGET", budget) when that many exits did not end it.

    `ports` maps a port to a device with read() and write(word).
    Without one, writes are lost and reads give 0xFFFF.
    """
    ### BEGIN SOLUTION
    for _ in range(budget):
        what, detail = run(cpu)
        if what == "OUT":
            word = cpu.stack.pop()
            if detail in ports:
                ports[detail].write(word)
        elif what == "IN":
            cpu.stack.append(ports[detail].read() if detail in ports else 0xFFFF)
        else:
            return what, detail
    ### END SOLUTION
    return "BUDGET", budget

# %% check="00.3"
check("00.3", monitor)

# %%
lonely, loop = Cpu(assemble("IN 7; HALT")), Cpu(assemble("PUSH 65; OUT 1; PUSH 1; JNZ 0"))
run = lambda cpu: run_cpu(cpu, compute)
show(try_out(monitor, lonely, run, {}), [hex(word) for word in lonely.stack])
show(try_out(monitor, loop, run, {}, 50))  # Break it: a guest that prints for ever meets its budget
reveal("3.a", 3, "nobody drives the wires, so they float high. "
       "That is how an OS finds out what isn't there.")

# %% [markdown]
# ## 4 · All together: your first virtual machine
#
# You have a CPU, a monitor and a console. Plugged together, they are a virtual machine.
#
# **Predict.** `PUSH 1; JNZ 0` runs for ever and does nothing else. Does the monitor's budget of 1000 exits stop it?
#
# 1. yes, after 1000 exits
# 2. yes, with a trap
# 3. no
#
# ### Task 00.4
# Complete `stack_machine` with a `Console` (next cell) at port 1. The monitor wants a `run` with one argument, your `run_cpu` has
# two: a small `lambda` bridges that.
#
# *Source: Smith and Nair, "The Architecture of Virtual Machines", IEEE Computer 38(5), 2005.*
#
# <details><summary>Hint 1: a nudge</summary>Which three things does <code>monitor</code> want?</details>
# <details><summary>Hint 2: the idea</summary>Keep the console in a variable: you need it again when the guest has
# ended.</details>
# <details><summary>Hint 3: nearly there</summary><code>monitor(Cpu(program), lambda cpu: run_cpu(cpu, compute), {1:
# console})</code>. The classic mistake is to give each port a new, empty console.</details>

# %%
class Console:  # a device: prints what the guest writes; the guest reads what was typed, then 0
    def __init__(self, typed=b""):
        self.typed, self.printed = list(typed), bytearray()
    def write(self, word):
        self.printed.append(word & 0xFF)
    def read(self):
        return self.typed.pop(0) if self.typed else 0

predict("4.a", 1)

# %% exercise="00.4"
def stack_machine(program, typed=b""):
    """Runs `program` with a Console at port 1. Returns two things: the exit that ended it
    (as `monitor` gives it), and the bytes printed."""
    ### BEGIN SOLUTION
    console = Console(typed)
    end = monitor(Cpu(program), lambda cpu: run_cpu(cpu, compute), {1: console})
    return end, bytes(console.printed)
    ### END SOLUTION

# %% check="00.4"
check("00.4", stack_machine, compute, run_cpu, monitor)

# %%
echo = assemble("IN 1; DUP; JNZ 4; HALT; PUSH 1; ADD; OUT 1; PUSH 1; JNZ 0")
show(try_out(stack_machine, echo, b"HAL"), try_out(stack_machine, countdown))
# Break it: a program without HALT runs off its end
show(try_out(stack_machine, assemble("PUSH 72; OUT 1")))
reveal("4.a", 3, "it never exits, so the monitor never gets a say (don't try it). "
       "Remember this one for section 9.")

# %% [markdown]
# ## 5 · The field on one page
#
# ![a map of the field](img/lab00/field.svg)
#
# A **type 1** hypervisor owns the hardware itself; **type 2** is a program on a host OS. All of them **multiplex**: they
# share the host's CPU, memory, interrupts and devices (the physical side) among VMs and their virtual CPUs, the vCPUs,
# whose lives they manage (the virtual side).
#
# **Predict.** Who is type 1, *and* needs a privileged guest for its drivers?
#
# 1. KVM
# 2. Xen
# 3. QEMU

# %%
predict("5.a", 1)

# %% [markdown]
# ![three guests on one CPU](img/lab00/turns.svg)
#
# ### Task 00.5
# Multiplex one CPU: complete `take_turns`. Each guest gets one turn, then the next; who has ended gets no more.
#
# *Source: Arpaci-Dusseau, "Operating Systems: Three Easy Pieces", chapter 7, "Scheduling: Introduction".*
#
# <details><summary>Hint 1: a nudge</summary>Think of people queueing at one counter.</details>
# <details><summary>Hint 2: the idea</summary>Take the first of a queue; if it wants to go on, it queues up again at the
# end.</details>
# <details><summary>Hint 3: nearly there</summary><code>waiting.pop(0)</code>, <code>serve(guest)</code>,
# <code>waiting.append(guest)</code>. The classic mistake is to remove from a list while a <code>for</code> walks over
# it: the next guest is skipped.</details>

# %% exercise="00.5"
def take_turns(guests, serve):
    """Gives the guests one turn each, round after round, in their order.
    Returns the number of turns given in all.

    `serve(guest)` is one turn; it returns False when that was the guest's last.
    """
    ### BEGIN SOLUTION
    waiting, turns = list(guests), 0
    while waiting:
        guest = waiting.pop(0)
        turns += 1
        if serve(guest):
            waiting.append(guest)
    return turns
    ### END SOLUTION

# %% check="00.5"
check("00.5", take_turns)

# %%
text = "PUSH {}; DUP; OUT 1; PUSH 1; SUB; DUP; PUSH {}; SUB; JNZ 1; HALT"
screen, cpus = Console(), [Cpu(assemble(text.format(n, n - 3))) for n in (51, 99)]  # "321", "cba"
turn = lambda cpu: monitor(cpu, run, {1: screen}, budget=1)[0] == "BUDGET"  # a turn is one exit
turns = try_out(take_turns, cpus, turn)
show(table([(turns, screen.printed.decode())], ("turns", "both guests on one screen")))
reveal("5.a", 2, "Xen owns the machine, but leaves the drivers to its first guest, Dom0. "
       "With KVM, Linux is OS and hypervisor in one.")

# %% [markdown]
# ## 6 · The hole
#
# To run a guest's *kernel* safely, run it in *user mode*, without privilege, like a program. What it may not do
# **traps**, and the VMM does it instead. Popek and Goldberg: this works if all *sensitive* instructions (they read or
# change the machine's state) trap.
#
# **Predict.** `popf` loads the flags, among them "interrupts on". In user mode it tries to switch them off. On x86 it:
#
# 1. traps
# 2. works
# 3. does nothing, silently

# %%
from collections import namedtuple
Instruction = namedtuple("Instruction", "name reads writes traps")
# r: reads the machine's state, w: writes it, t: traps in user mode (on CPUs before UMIP)
X86 = [Instruction(name, "r" in facts, "w" in facts, "t" in facts) for name, facts in (
    ("hlt", "wt"), ("lgdt", "wt"), ("mov cr3, rax", "wt"), ("mov rax, cr3", "rt"),
    ("sgdt", "r"), ("smsw", "r"), ("pushf", "r"), ("popf", "w"), ("str", "r"),
    ("add", ""), ("mov rax, rbx", ""), ("ud2", "t"))]
predict("6.a", 1)

# %% [markdown]
# ![sensitive, privileged, and the hole](img/lab00/holes.svg)
#
# ### Task 00.6
# Complete `holes`: which instructions make trap-and-emulate fail? Robin and Irvine found seventeen in the Pentium.
#
# *Source: Popek and Goldberg, CACM 17(7), 1974, Theorem 1; Robin and Irvine, USENIX Security 2000.*
#
# <details><summary>Hint 1: a nudge</summary>Which part of the circle on the left lies outside the one on the
# right?</details>
# <details><summary>Hint 2: the idea</summary>Sensitive *and not* trapping. Reading counts too: a guest that can see it
# has been deprivileged is not fooled.</details>
# <details><summary>Hint 3: nearly there</summary><code>(i.reads or i.writes) and not i.traps</code>. The classic
# mistakes: to look at <code>writes</code> only, and to forget the brackets.</details>

# %% exercise="00.6"
def holes(instructions):
    """The names, in order, of those that read or write the machine's state and do not trap."""
    ### BEGIN SOLUTION
    return [i.name for i in instructions if (i.reads or i.writes) and not i.traps]
    ### END SOLUTION

# %% check="00.6"
check("00.6", holes)

# %%
show(try_out(holes, X86))
show(try_out(holes, [each._replace(traps=True) for each in X86]))  # a CPU where all trap: no hole
reveal("6.a", 3, "the guest believes that interrupts are off, and they are not. "
       "No trap, so the VMM can't help.")

# %% [markdown]
# ## 7 · Three ways around, and your host
#
# VMware *translated* the bad instructions away; Xen *changed the guest*. Since 2005 hardware closes the hole with a mode
# for guests: there `popf` changes the guest's own flags only. Intel's VT-x shows as the CPU flag `vmx`, AMD-V as `svm`.
# Linux offers it as `/dev/kvm`.
#
# **Predict.** You are inside a VM. Can `/proc/cpuinfo` tell?
#
# 1. no
# 2. yes, by a flag

# %%
predict("7.a", 1)

# %% [markdown]
# ![four kinds of host](img/lab00/hosts.svg)
#
# ### Task 00.7
# Complete `what_can_run`: read the line `flags`, and give one of the four words in the picture; then True if the flag
# `hypervisor` is there, else False. That flag says that this host is itself a guest.
#
# *Source: proc_cpuinfo(5); Intel SDM vol. 2, CPUID leaf 1 (VMX); AMD APM vol. 3, CPUID Fn8000_0001 ECX bit 2 (SVM),
# Fn0000_0001 ECX bit 31 (hypervisor).*
#
# <details><summary>Hint 1: a nudge</summary>Is <code>svm_lock</code> the same flag as <code>svm</code>?</details>
# <details><summary>Hint 2: the idea</summary>Find the line whose name, before the colon, is exactly
# <code>flags</code> (newer kernels also have <code>vmx flags</code>). Split the rest into words.</details>
# <details><summary>Hint 3: nearly there</summary><code>name, _, rest = line.partition(":")</code>, <code>name.strip()
# == "flags"</code>, <code>rest.split()</code>. The classic mistake is <code>"vmx" in cpuinfo</code>: that also finds
# it in the model's name.</details>

# %% exercise="00.7"
def what_can_run(cpuinfo, has_device):
    """Two things: the word for an x86 host ("hardware", "interpreter", "switched off", "emulate"),
    and whether it is a VM itself.

    `cpuinfo` is the text of /proc/cpuinfo, perhaps empty; `has_device`: is /dev/kvm there?
    """
    flags = set()
    ### BEGIN SOLUTION
    for line in cpuinfo.splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "flags":
            flags.update(rest.split())
    if flags & {"vmx", "svm"}:
        word = "hardware" if has_device else "switched off"
    else:
        word = "interpreter" if has_device else "emulate"
    return word, "hypervisor" in flags
    ### END SOLUTION

# %% check="00.7"
check("00.7", what_can_run)

# %%
from pathlib import Path
cpuinfo = Path("/proc/cpuinfo")  # on macOS and Windows there is none
text = cpuinfo.read_text() if cpuinfo.exists() else ""
show(try_out(what_can_run, text, Path("/dev/kvm").exists()))
show(try_out(what_can_run, "", False))  # Break it: a host that tells nothing. Which word is safe?
reveal("7.a", 2, "a polite hypervisor sets the flag hypervisor, "
       "so that guests can ask it for better devices.")

# %% [markdown]
# ## 8 · The real thing
#
# Now swap your stack machine for a processor. `Machine` is the small VMM that you will build in the next labs: a vCPU,
# memory, a serial port. Its loop is your `monitor`.
#
# **Predict.** A guest prints 24 characters, one `out` each, and halts. How many exits?
#
# 1. one
# 2. two
# 3. twenty-five

# %%
predict("8.a", 1)

# %% [markdown]
# ![where a guest lies in memory](img/lab00/first-guest.svg)
#
# ### Task 00.8
# Run a guest: put its image at 0x1000, enter it there in *real mode* (16 bits, as every PC wakes up), and bring back
# what it printed. `Machine(input=…)`, then its `load(address, image)`,
# `enter(mode, address)`, `run(timeout=…)` and `console` are all you need.
#
# *Source: Intel SDM vol. 3, "Real-Address Mode"; KVM API 4.10 and 5.*
#
# <details><summary>Hint 1: a nudge</summary><code>with Machine(input=typed) as machine:</code> makes it and cleans
# up.</details>
# <details><summary>Hint 2: the idea</summary>Load, enter, run, look: in this order. A guest may never end, so
# <code>run</code> needs its <code>timeout</code>.</details>
# <details><summary>Hint 3: nearly there</summary><code>machine.enter("real", 0x1000)</code>,
# <code>machine.run(timeout=patience)</code>, <code>return bytes(machine.console)</code>. The classic mistake is to
# leave out <code>timeout</code>.</details>

# %% exercise="00.8"
def first_guest(image, typed=b"", patience=1.0):
    """Runs a real-mode image at 0x1000 for `patience` seconds at most.
    Returns the bytes that it printed.

    `typed` is what the guest can read from its serial port.
    """
    ### BEGIN SOLUTION
    with Machine(input=typed) as machine:
        machine.load(0x1000, image)
        machine.enter("real", 0x1000)
        machine.run(timeout=patience)
        return bytes(machine.console)
    ### END SOLUTION

# %% check="00.8"
check("00.8", first_guest)

# %%
image = guest_image("hello", nonce=0xC0FFEE)  # a nonce: a number of its own for each run
show(disassemble(image, 0x1000, 16, count=6))
show(hexdump(image[-64:]))  # the last 64 bytes: its parameters, our nonce and the port 0x3F8
show(try_out(first_guest, image))
# Break it: a guest that prints on a second serial port. Who listens there?
show(try_out(first_guest, guest_image("hello", port=0x2F8)))
reveal("8.a", 3, "24 characters and one HLT. Lab 01 finds a cheaper way to print.")

# %% [markdown]
# ## 9 · Four ways to end
#
# Your budget could not stop a guest that never exits. KVM can: interrupts of the host take the CPU back, and a signal
# ends `KVM_RUN`. That is how `timeout` works.
#
# **Predict.** A guest throws its interrupt table away, then makes a mistake. It ends …
#
# 1. halted
# 2. dead: the processor gives up
# 3. never

# %%
predict("9.a", 1)

# %% [markdown]
# ![four ways to end](img/lab00/fates.svg)
#
# ### Task 00.9
# Complete `fate`. `machine.run` returns a stop with a `reason` ("halted", "died", "timeout", "debug-exit") and an
# `exit_code`. A guest that writes a byte B to the debug-exit port 0xF4 ends with exit code 2B + 1, as in QEMU; the
# machine has done that sum for you.
#
# *Source: Intel SDM vol. 3, "Interrupt 8"; KVM API 5, `immediate_exit`; QEMU, isa-debug-exit.*
#
# <details><summary>Hint 1: a nudge</summary>Print the <code>stop</code> of one guest and look at it.</details>
# <details><summary>Hint 2: the idea</summary>Two reasons have other names here. The number of the fourth changes with
# each guest.</details>
# <details><summary>Hint 3: nearly there</summary>A dict from reason to word, and <code>f"exit code
# {stop.exit_code}"</code>. The classic mistake is to forget that <code>mode</code> isn't always "real".</details>

# %% exercise="00.9"
def fate(image, mode, patience=1.0):
    """How the guest at 0x1000 ends: "halted", "died", "exit code 7" (or what the number is),
    or "runs for ever" when `patience` seconds are over."""
    ### BEGIN SOLUTION
    with Machine() as machine:
        machine.load(0x1000, image)
        machine.enter(mode, 0x1000)
        stop = machine.run(timeout=patience)
    words = {"halted": "halted", "died": "died", "timeout": "runs for ever"}
    return words.get(stop.reason, f"exit code {stop.exit_code}")
    ### END SOLUTION

# %% check="00.9"
check("00.9", fate)

# %%
names = ("hello", "long-hello", "spinner", "debug-exit", "triple-fault")
found = [guests.load(name) for name in names]
ends = [try_out(fate, each.patched(nonce=42), each.mode, 0.3) for each in found]
show(table([(g.name, g.mode, end) for g, end in zip(found, ends)], ("guest", "mode", "fate")))
# Break it: in another mode, the same bytes are other instructions
show(try_out(fate, guest_image("long-hello"), "real"))
show(run_guest("triple-fault", nonce=42))  # it explains itself: by Lab 02 you know each line
reveal("9.a", 2, "no handler for the fault, nor for the double fault that follows: a triple fault. "
       "A PC would reboot; KVM tells you.")

# %% [markdown]
# ## What you have now, and how to stretch it
#
# A CPU that runs until it needs help, a monitor that helps, guests that take turns: that is every hypervisor, from your
# ten lines to KVM. In **Lab 01** you make the calls to `/dev/kvm` yourself. Until then (no points):
#
# 1. The 64-bit guest "halted" in real mode. Did it say anything? What does a HLT prove?
# 2. Enter `hello` at 0 instead of 0x1000. It still runs! Why? (`disassemble(bytes(16))` helps.)
# 3. Make `OUT` and `JNZ` trap on an empty stack.
# 4. `PUSH 1; JNZ 0` once more: let `run_cpu` exit with `("TIMER", 0)` after 100 instructions, and take turns fairly.
