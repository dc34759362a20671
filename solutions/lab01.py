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
#   minivmm:
#     lab: "01"
# ---

# %% [markdown]
# # Lab 01 · The first exit
#
# Today you build a virtual machine from nothing but system calls: open a file, make a few `ioctl` calls, share some
# memory. A program will run on a CPU that you made, and say hello. You write some fifty lines of Python, in ten tasks;
# QEMU begins with the very same calls.
#
# ![three handles and two pieces of memory](img/lab01/handles.svg)
#
# KVM gives out three kinds of handle: the **system**, a **VM** (memory, devices) and a **vCPU** (registers). Each
# takes its own ioctls; a call on the wrong handle fails with `ENOTTY` or `EINVAL`.
#
# *Source: KVM API, "1. General description".*

# %% [markdown]
# ## 1 · A call with a number
#
# `ioctl(handle, number, argument)` is one door for every driver. The number tells what is asked, which way data
# flows, and how large the structure is.
#
# **Predict.** Your header file is outdated: its `struct kvm_regs` is 8 bytes short. What does `KVM_SET_REGS` do?
#
# 1. sets all registers but one
# 2. fails: no such call
# 3. crashes the kernel
#
# *Source: Linux, "Decoding an IOCTL Magic Number".*

# %%
from errno import EINTR

from minivmm.lab import *

predict("1.a", 1)  # put your answer in place of the 1

# %% [markdown]
# ![the four fields of an ioctl number](img/lab01/number.svg)
#
# ### Task 1
# Complete `request_number`. KVM's letter is `0xAE`.
#
# <details><summary>Hint 1: a nudge</summary>Shift each field to its place, then put them together with <code>|</code>.
# </details>
# <details><summary>Hint 2: the idea</summary>Two bits of direction on top (from bit 30), 14 bits of size (from bit 16),
# the letter (from bit 8), the number (from bit 0). Source: <code>ioctl-decoding.rst</code>.</details>
# <details><summary>Hint 3: nearly there</summary><code>direction &lt;&lt; 30 | size &lt;&lt; 16 | …</code> The classic
# mistake is to forget the letter: without it the kernel can't tell whose call it is.</details>


# %% exercise="01.1"
def request_number(direction: int, number: int, size: int) -> int:
    """KVM's request number.

    `direction`: 0 none, 1 to the kernel, 2 from it, 3 both; `size` in bytes.
    """
    ### BEGIN SOLUTION
    return direction << 30 | size << 16 | 0xAE << 8 | number
    ### END SOLUTION


# %% check="01.1"
check("01.1", request_number)

# %%
names = ("KVM_CREATE_VM", "KVM_RUN", "KVM_GET_REGS", "KVM_SET_REGS", "KVM_SET_USER_MEMORY_REGION")
show(table([(name, f"{globals()[name]:#010x}") for name in names], ("call", "number")))
why = "the size is part of the number: a shorter structure makes a call that KVM does not know."
reveal("1.a", 2, why)

# %% [markdown]
# ## 2 · The system handle
#
# Everything starts with `open_kvm()`, which is `open("/dev/kvm", O_RDWR)`. Before you go on, ask whether you speak
# the same language: the API's version has been 12 since 2007, and a program must refuse any other.
#
# ### Task 2
# Complete `open_system`.
#
# *Source: KVM API 4.1, KVM_GET_API_VERSION.*
#
# <details><summary>Hint 1: a nudge</summary>Two calls and one comparison.</details>
# <details><summary>Hint 2: the idea</summary><code>ioctl(kvm, KVM_GET_API_VERSION)</code> takes no structure; its result
# is the version.</details>
# <details><summary>Hint 3: nearly there</summary>Open, ask, <code>if … != 12: raise RuntimeError(…)</code>, return the
# handle. The classic mistake is to ask and not to look at the answer.</details>


# %% exercise="01.2"
def open_system() -> int:
    """The system handle. Raises RuntimeError if the kernel's API version isn't 12."""
    ### BEGIN SOLUTION
    kvm = open_kvm()
    version = ioctl(kvm, KVM_GET_API_VERSION)
    if version != 12:
        raise RuntimeError(f"KVM API version {version} where 12 is needed")
    return kvm
    ### END SOLUTION


# %% check="01.2"
check("01.2", open_system)

# %% [markdown]
# ## 3 · Memory
#
# A new VM has not one byte of RAM. You lend it some of *yours*: a **memory slot** says "what the guest sees at this
# address is what I have at that one".
#
# **Predict.** The guest reads an address that no slot covers. What happens?
#
# 1. it reads 0
# 2. the guest dies
# 3. KVM stops it and asks you
#
# *Source: KVM API 4.35, KVM_SET_USER_MEMORY_REGION.*

# %%
predict("3.a", 1)

# %% [markdown]
# ![guest-physical addresses, slots, host memory](img/lab01/slots.svg)
#
# ### Task 3
# Complete `add_memory`: `anonymous_memory(size)` gives a buffer, `address_of(buffer)` its host address, and
# `struct("kvm_userspace_memory_region", slot=…, …)` what the ioctl wants: `slot`, `flags`, `guest_phys_addr`,
# `memory_size` and `userspace_addr`.
#
# <details><summary>Hint 1: a nudge</summary>The structure has five fields; <code>flags</code> may stay 0.</details>
# <details><summary>Hint 2: the idea</summary><code>guest_phys_addr</code> is where the guest sees it,
# <code>userspace_addr</code> where you do; <code>memory_size</code> counts bytes. KVM API 4.35.</details>
# <details><summary>Hint 3: nearly there</summary>Pass the structure to <code>KVM_SET_USER_MEMORY_REGION</code> on the
# <b>VM's</b> handle and return the buffer. The classic mistake is slot 0 for every piece: the second call then tries
# to change the first.</details>


# %% exercise="01.3"
def add_memory(vm: int, slot: int, gpa: int, size: int):
    """Gives the guest `size` bytes at `gpa`. Returns the buffer behind them."""
    ### BEGIN SOLUTION
    buffer = anonymous_memory(size)
    region = struct("kvm_userspace_memory_region", slot=slot, guest_phys_addr=gpa, memory_size=size)
    region.userspace_addr = address_of(buffer)
    ioctl(vm, KVM_SET_USER_MEMORY_REGION, region)
    return buffer
    ### END SOLUTION


# %% check="01.3"
check("01.3", add_memory)

# %%
kvm = open_kvm()
vm = ioctl(kvm, KVM_CREATE_VM)
with trying():
    ram = add_memory(vm, 0, 0, 0x8000)
    ram[0x1000:0x1004] = b"\xa0\xcd\xab\xf4"  # mov al, [0xabcd]; hlt
    show(hexdump(ram[0x1000:0x1010], 0x1000), disassemble(ram[0x1000:0x1004]))

# %% [markdown]
# Four bytes of a program lie in the memory of a machine that has no CPU yet. It reads the address `0xabcd`, far above
# the `0x8000` bytes that you gave. Your answer to 3.a will be tested as soon as there is a CPU to run it.

# %% [markdown]
# ## 4 · The vCPU and its page
#
# `ioctl(vm, KVM_CREATE_VCPU, 0)` makes the first vCPU. With it comes a **shared page**, `struct kvm_run`: there KVM
# writes why the guest stopped, and there you answer. How large the mapping is, only the kernel knows.
#
# ### Task 4
# Complete `create_vcpu`; `mmap_run(vcpu, size)` maps the page.
#
# *Source: KVM API 4.5, KVM_GET_VCPU_MMAP_SIZE; 4.7, KVM_CREATE_VCPU.*
#
# <details><summary>Hint 1: a nudge</summary>Three calls: one on the VM, one on the system, one map.</details>
# <details><summary>Hint 2: the idea</summary><code>KVM_GET_VCPU_MMAP_SIZE</code> is a question to the <b>system</b>
# handle, and its result is the size in bytes.</details>
# <details><summary>Hint 3: nearly there</summary>Return <code>vcpu, run</code>. The classic mistake is to write 12288,
# or one page: right on one kernel, wrong on the next.</details>


# %% exercise="01.4"
def create_vcpu(kvm: int, vm: int):
    """vCPU 0 of `vm`. Returns two things: its handle and its mapped kvm_run page."""
    ### BEGIN SOLUTION
    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)
    run = mmap_run(vcpu, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE))
    return vcpu, run
    ### END SOLUTION


# %% check="01.4"
check("01.4", create_vcpu)

# %% [markdown]
# ## 5 · Where a CPU wakes up
#
# After reset an x86 CPU is in **real mode** and fetches from `cs.base + rip` (CS is the code segment): `0xFFFF0000 +
# 0xFFF0`, where a PC has its firmware. We have none, so we move the CPU to our code.
#
# **Predict.** You set `rip = 0x1000` and `cs.selector = 0`, and nothing else. Where does it fetch?
#
# 1. at `0x1000`
# 2. at `0xFFFF1000`
# 3. nowhere: it faults
#
# *Source: Intel SDM vol. 3, "Processor State After Reset".*

# %%
predict("5.a", 1)

# %% [markdown]
# ### Task 5
# Complete `start_at`: read the special registers (`KVM_GET_SREGS` into a `struct("kvm_sregs")`), make **both** `base`
# and `selector` of `cs` zero, write them back; then set `rip` and `rflags=2` with `KVM_SET_REGS`.
#
# *Source: KVM API 4.11–4.14; Intel SDM vol. 1, "EFLAGS Register" (bit 1 is always set).*
#
# <details><summary>Hint 1: a nudge</summary>Read, change two fields, write: in this order.</details>
# <details><summary>Hint 2: the idea</summary>A segment register has a hidden half: the CPU adds <code>base</code>, not
# the selector. SDM vol. 3, "Segment Registers".</details>
# <details><summary>Hint 3: nearly there</summary><code>ioctl(vcpu, KVM_GET_SREGS, sregs)</code> fills the structure;
# <code>KVM_SET_SREGS</code> takes it back. The classic mistake is to start from a structure of zeros: then every
# other segment is gone, too.</details>


# %% exercise="01.5"
def start_at(vcpu: int, entry: int) -> None:
    """Lets the vCPU begin at `entry` in real mode, CS at 0; the other segments stay as they are."""
    ### BEGIN SOLUTION
    sregs = struct("kvm_sregs")
    ioctl(vcpu, KVM_GET_SREGS, sregs)
    sregs.cs.base = 0
    sregs.cs.selector = 0
    ioctl(vcpu, KVM_SET_SREGS, sregs)
    ioctl(vcpu, KVM_SET_REGS, struct("kvm_regs", rip=entry, rflags=2))
    ### END SOLUTION


# %% check="01.5"
check("01.5", start_at)

# %%
with trying():
    vcpu, run = create_vcpu(kvm, vm)
    start_at(vcpu, 0x1000)
    ioctl(vcpu, KVM_RUN)
    print(f"exit reason {run.exit_reason}, address {run.mmio.phys_addr:#x}")
show(reveal("3.a", 3, "a hole in memory is where devices live, and devices are yours to play."))
reveal("5.a", 2, "the base counts, and still is 0xffff0000; a guest that loads CS changes both.")

# %% [markdown]
# **That was a guest.** Exit reason 6 is `KVM_EXIT_MMIO`, and the address is `0xabcd`, a number that only *your four
# bytes* know: they ran. To fail on purpose, at a place of your own choosing, is the surest proof that you got there.
# (To run that cell again, first make a new VM in part 3: a VM has only one vCPU 0.)
#
# *Source: KVM API, "5. The kvm_run structure", KVM_EXIT_MMIO.*
#
# ## 6 · OUT: the guest says something
#
# `out dx, al` writes to a **port**. KVM stops the guest with `KVM_EXIT_IO` and fills `run.io`: `direction`, `size` of
# an item (1, 2, 4), `port`, `count` of items. The data lies further on in the same mapping, at `data_offset`.
#
# **Predict.** `rep insb` repeats a one-byte `in` and stores each byte in memory; here 16 times. How many exits?
#
# 1. one
# 2. sixteen
# 3. none

# %%
predict("6.a", 2)

# %% [markdown]
# ![the kvm_run page with an exit of three items](img/lab01/page.svg)
#
# ### Task 6
# Complete `bytes_of`. `run.page` are the bytes of the whole mapping.
#
# *Source: KVM API, "5. The kvm_run structure", KVM_EXIT_IO; Intel SDM vol. 2, OUTS.*
#
# <details><summary>Hint 1: a nudge</summary>How many bytes does an exit carry if <code>size</code> is 2 and
# <code>count</code> is 3?</details>
# <details><summary>Hint 2: the idea</summary><code>data_offset</code> counts from the start of the page, so
# <code>run.page[data_offset]</code> is the first byte.</details>
# <details><summary>Hint 3: nearly there</summary>A slice of <code>size × count</code> bytes, copied with
# <code>bytes(…)</code>. The classic mistake is to stop after <code>size</code>; two published VMMs get strings wrong.</details>


# %% exercise="01.6"
def bytes_of(run) -> bytes:
    """All the bytes that this OUT exit carries, in order."""
    ### BEGIN SOLUTION
    io = run.io
    return bytes(run.page[io.data_offset : io.data_offset + io.size * io.count])
    ### END SOLUTION


# %% check="01.6"
check("01.6", bytes_of)

# %%
show(run_guest("rep-insb", input=b"sixteen letters!", nonce=1))
why = "KVM asks for all at once. For `rep outsb`, Linux makes one exit a byte; it may batch."
reveal("6.a", 1, why)

# %% [markdown]
# Exit 1 brought in all sixteen letters. The guest sends them back scrambled with its nonce, so that nobody can guess.
#
# **Break it on purpose.** Return only the first `io.size` bytes, and check again. Task 6 is graded on a kernel that
# puts whole strings into one exit, as the API allows: code that works only by today's luck loses its point there.
#
# ## 7 · IN: the guest asks
#
# `in al, dx` is a question. The guest stands still until you call `KVM_RUN` again; what then lies at `data_offset` is
# what it has read. Where no device answers, a PC's data lines float high: **all ones**.
#
# **Predict.** You forget to write an answer. What does the guest read, on Linux today?
#
# 1. 0
# 2. 0xFF
# 3. what the last OUT left there

# %%
predict("7.a", 2)

# %% [markdown]
# ### Task 7
# Complete `fill`: take the bytes that the IN wants out of the front of `typed`, fill up what is missing with `0xFF`,
# and write them to the page.
#
# *Source: KVM API, "5. The kvm_run structure", KVM_EXIT_IO; Intel SDM vol. 2, IN and INS.*
#
# <details><summary>Hint 1: a nudge</summary>How many bytes? You have worked it out in task 6.</details>
# <details><summary>Hint 2: the idea</summary><code>bytes(…).ljust(n, b"\xff")</code> fills up on the right;
# <code>del typed[:n]</code> takes away from the front.</details>
# <details><summary>Hint 3: nearly there</summary>Assign to the slice of <code>run.page</code> from
# <code>data_offset</code> on, just as long. The classic mistake is to leave the bytes in <code>typed</code>: the guest
# reads the first one for ever.</details>


# %% exercise="01.7"
def fill(run, typed: bytearray) -> None:
    """Answers this IN exit with the first bytes of `typed`, and removes them.

    0xFF stands for each byte that `typed` lacks.
    """
    ### BEGIN SOLUTION
    io = run.io
    wanted = io.size * io.count
    answer = bytes(typed[:wanted]).ljust(wanted, b"\xff")
    del typed[:wanted]
    run.page[io.data_offset : io.data_offset + wanted] = answer
    ### END SOLUTION


# %% check="01.7"
check("01.7", fill)

# %%
show(run_guest("unknown-port", nonce=7))
why = "Linux clears the place before it asks. The machine above answered, with ones: to a driver, "
why += "0 looks like a device, idle and well."
reveal("7.a", 1, why)

# %% [markdown]
# ## 8 · KVM_RUN, interrupted
#
# A signal (Ctrl-C, a timer) makes `KVM_RUN` return early with `EINTR`. The guest did not ask for anything, so the page
# holds nothing to serve: simply call again. Every *other* error is a mistake of ours and must be seen.
#
# ### Task 8
# Complete `enter`. `ioctl` raises `KvmError`; its `errno` tells.
#
# *Source: KVM API 4.10, KVM_RUN.*
#
# <details><summary>Hint 1: a nudge</summary>A loop with <code>try</code> in it.</details>
# <details><summary>Hint 2: the idea</summary>Success returns; <code>EINTR</code> goes round again; anything else is
# raised again with a bare <code>raise</code>.</details>
# <details><summary>Hint 3: nearly there</summary><code>except KvmError as error: if error.errno != EINTR: raise</code>.
# The classic mistake is to swallow every error: a closed handle then spins for ever.</details>


# %% exercise="01.8"
def enter(vcpu: int) -> None:
    """Runs the guest until its next exit; signals (EINTR) go unnoticed.

    Raises KvmError for any other error.
    """
    ### BEGIN SOLUTION
    while True:
        try:
            ioctl(vcpu, KVM_RUN)
            return
        except KvmError as error:
            if error.errno != EINTR:
                raise
    ### END SOLUTION


# %% check="01.8"
check("01.8", enter)

# %% [markdown]
# ## 9 · The run loop
#
# This loop is the heart of every VMM: run, look why it stopped, serve, run again. QEMU's has the same shape.
#
# **Predict.** A guest has no interrupt table and executes an undefined instruction. The CPU can't deliver this fault,
# nor the *double fault* that follows, so there is a third. The guest …
#
# 1. hangs
# 2. reboots by itself
# 3. stops, and KVM tells you
#
# *Source: Intel SDM vol. 3, "Interrupt 8: Double Fault Exception".*

# %%
predict("9.a", 2)

# %% [markdown]
# ![the run loop](img/lab01/loop.svg)
#
# ### Task 9
# Complete `run_loop`. `go()` runs the guest until its next exit. An exit that you don't know must **raise**: a guest
# that goes on unanswered fails later, elsewhere.
#
# *Source: KVM API, "5. The kvm_run structure".*
#
# <details><summary>Hint 1: a nudge</summary><code>while True:</code>, <code>go()</code>, then <code>if</code> by
# <code>run.exit_reason</code>.</details>
# <details><summary>Hint 2: the idea</summary>Two reasons return, one is handled, all others raise. For
# <code>KVM_EXIT_IO</code> look at <code>run.io.direction</code>: <code>KVM_EXIT_IO_OUT</code> or
# <code>KVM_EXIT_IO_IN</code>, as the guest sees it.</details>
# <details><summary>Hint 3: nearly there</summary><code>handler = on_out if … else on_in</code>, then
# <code>handler(run)</code>. The classic mistake is an <code>else</code> that hopes for the best; a second one is
# <code>match</code> with a bare <code>case KVM_EXIT_HLT</code>, which matches everything.</details>


# %% exercise="01.9"
def run_loop(go, run, on_out, on_in) -> str:
    """Runs to the end: "halted" (HLT) or "triple fault" (SHUTDOWN).

    on_out(run) and on_in(run) serve the ports.
    Raises RuntimeError, with the exit reason in its text, for every other exit.
    """
    ### BEGIN SOLUTION
    while True:
        go()
        if run.exit_reason == KVM_EXIT_HLT:
            return "halted"
        if run.exit_reason == KVM_EXIT_SHUTDOWN:
            return "triple fault"
        if run.exit_reason != KVM_EXIT_IO:
            raise RuntimeError(f"nobody handles exit reason {run.exit_reason}")
        handler = on_out if run.io.direction == KVM_EXIT_IO_OUT else on_in
        handler(run)
    ### END SOLUTION


# %% check="01.9"
check("01.9", run_loop)

# %%
show(run_guest("triple-fault", nonce=ord("A") << 56))  # it prints an A before it dies
reveal("9.a", 3, "the CPU shuts down: KVM_EXIT_SHUTDOWN. It is a PC's board that then resets it.")

# %% [markdown]
# The report names the likely cause first; the rest is evidence.
#
# ## 10 · Hello
#
# Every part is yours now. Put them together: 64 KiB of memory at 0, the image at `0x1000`, and the vCPU begins there.
# Port `0x3F8` is the console, as on a PC, where it is the first serial port.
#
# ### Task 10
# Complete `vmm`.
#
# *Source: KVM API, "1. General description".*
#
# <details><summary>Hint 1: a nudge</summary>Tasks 2, 3, 4 and 5 make the machine; 6 and 7 serve it; 8 and 9 run it.
# </details>
# <details><summary>Hint 2: the idea</summary>Two small functions of <code>run</code>, one for each direction, that look
# at <code>run.io.port</code>. A port that isn't ours swallows what is written and reads as ones: what does
# <code>fill(run, bytearray())</code> do?</details>
# <details><summary>Hint 3: nearly there</summary><code>run_loop(lambda: enter(vcpu), run, on_out, on_in)</code>. The
# classic mistake is to take every port for the console.</details>


# %% exercise="01.10"
def vmm(image: bytes, typed: bytes = b""):
    """Runs a guest. Returns how it ended (a str) and what it wrote to port 0x3F8 (bytes).

    An IN from port 0x3F8 reads `typed`, byte for byte.
    Other ports swallow what is written and read as all ones.
    """
    console, keys = bytearray(), bytearray(typed)
    ### BEGIN SOLUTION
    kvm = open_system()
    vm = ioctl(kvm, KVM_CREATE_VM)
    ram = add_memory(vm, 0, 0, 0x10000)
    ram[0x1000 : 0x1000 + len(image)] = image
    vcpu, run = create_vcpu(kvm, vm)
    start_at(vcpu, 0x1000)
    on_out = lambda run: console.extend(bytes_of(run) if run.io.port == 0x3F8 else b"")
    on_in = lambda run: fill(run, keys if run.io.port == 0x3F8 else bytearray())
    how = run_loop(lambda: enter(vcpu), run, on_out, on_in)
    return how, bytes(console)
    ### END SOLUTION


# %% check="01.10"
check("01.10", vmm)

# %%
with trying():
    how, console = vmm(guest_image("hello", nonce=0xC0FFEE))
    print(console.decode(), how)

# %% [markdown]
# **That is a hypervisor.** Now break it: give it only `0x8000` bytes of memory in `vmm`, run its cell and the last one
# again, and read what `run_loop` says. The guest calls a routine, and the stack pointer starts at 0: the first push wraps around to `0xFFFE`.
#
# ## Stretch
#
# 1. Run `spinner`, which never exits. How do you get your notebook back? (A signal from a thread,
#    `signal.pthread_kill`; and `run.immediate_exit`, which KVM reads only as `KVM_RUN` begins.)
# 2. Let `keys` come from a real keyboard, and talk to `port-echo`.
# 3. Count the IN exits of `rep-insb` with `count=2000`. Why is it more than one?
# 4. Give two VMs the *same* buffer. What have you built?
