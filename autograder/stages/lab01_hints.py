"""The hints of lab 01: each names one classic mistake. The first of a group serves where no other fits."""

from __future__ import annotations

from autograder.model import Hint

TIMEOUT = Hint(
    "never-ends",
    "Each round begins with KVM_RUN, and HLT ends the loop. The classic mistake: to go on after HLT; the guest then "
    "executes whatever lies behind its code.",
    when="still running",
)

NUMBER = (
    Hint("fields", "Four fields: direction from bit 30, size from bit 16, the letter 0xAE from bit 8, number from 0."),
    Hint("no-letter", "The classic mistake: the letter is missing. KVM's is 0xAE, in bits 8 to 15."),
    Hint("order", "Number and size have changed places: the size of the structure lies higher up, from bit 16."),
    Hint("direction", "The direction has two bits, the topmost of 32: it starts at bit 30."),
    Hint("size", "The size field is 14 bits wide, but it starts at bit 16."),
)

SYSTEM = (
    Hint("handle", "Return what `open_kvm()` gave you: the version is only a number to look at."),
    Hint("twelve", "12 is the version that every KVM since 2007 has; only others are refused."),
)

VERSION = (
    Hint("refuse", "The classic mistake: to ask and not to look. Compare the answer with 12 and raise RuntimeError."),
    Hint("ask", "ioctl(kvm, KVM_GET_API_VERSION) returns the version: ask before you hand out the handle."),
    Hint("which", "raise RuntimeError: the contract in the docstring names the exception."),
)

MEMORY = (
    Hint(
        "guest",
        "The buffer that you return must be the very memory whose address (userspace_addr) KVM got.",
        when="EFAULT",
    ),
    Hint("buffer", "Return the buffer itself, so that the caller can write the guest's code into it."),
    Hint("call", "Pass a struct kvm_userspace_memory_region to KVM_SET_USER_MEMORY_REGION, on the VM handle."),
    Hint("size", "memory_size and the buffer are both `size` bytes long: the guest may use every one of them."),
    Hint("flags", "No flags: KVM_MEM_READONLY makes it ROM, and the guest's own writes then become exits."),
    Hint("gpa", "guest_phys_addr is where the guest sees the memory; userspace_addr is where you see it."),
    Hint("slot", "Pass the slot number on: it is KVM's name for this piece of memory."),
    Hint("handle", "The classic mistake: the wrong handle. Memory belongs to the VM.", when="ENOTTY"),
    Hint("address", "userspace_addr is a number: address_of(buffer).", when="TypeError"),
    Hint(
        "fields",
        "The fields: slot, flags, guest_phys_addr, memory_size, userspace_addr.",
        when="KeyError|AttributeError",
    ),
    Hint(
        "aligned",
        "Sizes and addresses are in bytes, in multiples of 4096; a bytearray isn't aligned. If they are: is it the "
        "VM's handle?",
        when="EINVAL",
    ),
)

SLOTS = (
    *MEMORY[:-1],
    Hint(
        "same-slot",
        "Where 01.3 passes, the classic mistake: every piece in slot 0. A slot number names one only.",
        when="EINVAL",
    ),
    Hint("overlap", "Two slots may not overlap: is guest_phys_addr the `gpa` that was asked for?", when="EEXIST"),
)

VCPU = (
    Hint("guest", "The page must be the one of this vCPU: map the handle that KVM_CREATE_VCPU returned."),
    Hint("pair", "Return two things, in this order: the vCPU's handle and its mapped page."),
    Hint(
        "fixed-size",
        "The classic mistake: a size that happens to be right today. Map what KVM_GET_VCPU_MMAP_SIZE says.",
    ),
    Hint(
        "handle",
        "Three handles: KVM_GET_VCPU_MMAP_SIZE asks the system, KVM_CREATE_VCPU the VM, mmap_run the vCPU.",
        when="ENOTTY|EINVAL|EBADF|mmap",
    ),
)

START = (
    Hint("guest", "The guest never came to its first OUT: look at CS and RIP once more."),
    Hint(
        "cs-base",
        "cs.base must be 0: the CPU adds it to rip. The classic mistake: cs.selector alone, which leaves the base at "
        "0xffff0000; set both and write them back with KVM_SET_SREGS.",
    ),
    Hint("cs-selector", "In real mode the base is the selector × 16: set cs.selector to 0, too."),
    Hint(
        "zeroed",
        "The classic mistake: a fresh structure of zeros. Read with KVM_GET_SREGS, change two fields, write back.",
    ),
    Hint("rip", "RIP is the entry: KVM_SET_REGS with rip=entry."),
    Hint("flags", "RFLAGS is 2: bit 1 is always set, and the interrupt flag (bit 9) stays clear."),
    Hint(
        "result",
        "ioctl fills the structure that you hand it; what it returns is a number. cs is in kvm_sregs, rip in kvm_regs.",
        when="AttributeError",
    ),
    Hint(
        "order",
        "Write back what you have read: a structure of zeros is no valid state.",
        when="KVM_SET_SREGS|KVM_SET_REGS",
    ),
)

OUT = (
    Hint("length", "An exit carries size × count bytes: the slice ends that far behind data_offset."),
    Hint("rep-count", "The classic mistake: `size` bytes only. `count` says how many items came in this one exit."),
    Hint("rep-size", "The classic mistake: one byte for each item. `size` says how wide an item is: 1, 2 or 4."),
    Hint("data-offset", "The data starts data_offset bytes after the beginning of the page, wherever that is today."),
    Hint("type", "run.page[a:b] is a view of memory that the next exit overwrites: return bytes(…) of it."),
    Hint("fields", "run.io says where and how many; the bytes themselves lie in run.page.", when="AttributeError"),
)

IN = (
    Hint(
        "filler", "First what `typed` has, then 0xFF for what it lacks. Bytes that this IN didn't take stay in `typed`."
    ),
    Hint("rep-count", "The classic mistake: one item only. The guest waits for size × count bytes."),
    Hint("take-away", "The classic mistake: the same bytes for ever. What you have handed out must leave `typed`."),
    Hint("place", "Nothing was written where the guest looks: data_offset counts from the start of the page."),
    Hint("guest", "The answers are right, but the guest saw others: write them at data_offset."),
    Hint(
        "structure",
        "A slice of the page takes exactly as many bytes as it is long: fill up with 0xFF to size × count.",
        when="ValueError",
    ),
)

ENTER = (
    Hint("once", "Call KVM_RUN until it succeeds, then return: the caller looks at the exit."),
    Hint("eintr", "The classic mistake: to take a signal for a failure. If error.errno is EINTR, go round again."),
    Hint("all-errors", "The classic mistake: `except` for everything. Only EINTR is harmless; raise the others again."),
    Hint("loop", "Only EINTR may go round again; a success must leave the loop.", when="still running"),
)

LOOP = (
    Hint("both-ways", "Every KVM_EXIT_IO goes to one handler: on_out or on_in, by run.io.direction."),
    Hint("direction", "The classic mistake: directions reversed. They are the guest's: KVM_EXIT_IO_OUT is 1, IN is 0."),
    Hint("words", 'Return "halted" for KVM_EXIT_HLT and "triple fault" for KVM_EXIT_SHUTDOWN, and nothing else.'),
    Hint(
        "too-strict",
        "HLT, SHUTDOWN and IO are the three exits to know; each IO calls on_out(run) or on_in(run) and goes on.",
    ),
    Hint("page", "Hand the page to the handlers: on_out(run), on_in(run).", when="TypeError"),
    TIMEOUT,
)

UNKNOWN = (
    Hint(
        "else",
        "The classic mistake: an `else` that hopes. What you don't know must stop the loop: raise RuntimeError.",
    ),
    Hint("which", "raise RuntimeError: the contract in the docstring names the exception."),
    Hint("reason", "Put run.exit_reason into the text: it is the first thing that anybody will ask."),
    TIMEOUT,
)

VMM = (
    Hint("how", "Return what run_loop returned: how the guest ended."),
    Hint("pair", "Return two things, in this order: how the guest ended (a str), then the console (bytes)."),
    Hint("console", "Nothing reached the console: add bytes_of(run) to it for each OUT to port 0x3F8."),
    Hint("earlier", "The classic mistake: a console that outlives its VM. Each call of `vmm` needs its own."),
    Hint(
        "ports",
        "The classic mistake: every port is the console. Only 0x3F8 is; `fill` answers every IN, others with ones.",
    ),
    Hint(
        "load",
        "64 KiB of memory at 0, the image at 0x1000, and there it starts. (Exit reason 6: no memory at that address.)",
        when="exit reason|RuntimeError",
    ),
    Hint("go", "run_loop calls `go` in each round: hand it a function, lambda: enter(vcpu).", when="not callable"),
    Hint("keys", "`typed` is bytes, which can't lose any: hand `keys` to `fill`.", when="'bytes' object"),
    TIMEOUT,
)
