"""The checks of lab 00, What is a virtual machine? Cases and judges are in lab00_toys and lab00_hosts."""

from __future__ import annotations

from collections.abc import Callable

from autograder.model import Case, Check, Hint, Lab, Limits
from autograder.nonces import Nonces
from autograder.stages import lab00_hosts as hosts
from autograder.stages import lab00_toys as toys

Cases = Callable[[Nonces], list[Case]]
QUICK = Limits(seconds=1.0)
PATIENT = Limits(seconds=4.0)  # three guests that get lost, each until its host loses patience, and room to say so
PAIR = Hint("pair", "An exit is a pair: what happened, and its detail. Return both.", when="could not use|unpack")

COMPUTE = (
    Check(
        "00.1", "arithmetic on 16-bit words", 1, "compute", "compute_once", toys.sums, toys.computed,
        (
            Hint("by-hand", "Do it by hand, with the top of the stack at the end of the list."),
            Hint("order", "The classic mistake: SUB is the word below minus the top, so 5, 7 gives 5 − 7."),
            Hint("wrap", "A word has 16 bits: take every result modulo 0x10000, also a negative one."),
            Hint("modulus", "Modulo 0x10000, not 0xFFFF: 16 bits hold 65536 different words."),
            Hint("signed", "Words wrap around: beyond 0xFFFF they start again at 0, and below 0 at the top."),
            Hint("clipped", "Words don't stop at 0 or at 0xFFFF, they wrap around: 5 − 7 is 65534."),
            Hint("why", "When all went well, return the empty string \"\"."),
        ),
        limits=QUICK,
    ),
    Check(
        "00.1b", "a fault leaves everything as it was", 1, "compute", "compute_once", toys.faults, toys.computed,
        (
            Hint("half-done", "Count the words before you pop the first: a fault leaves the stack as it was."),
            Hint("which", "\"underflow\" means too few words; \"unknown\" no such instruction."),
            Hint("underflow", "Test the length of the stack first: a short stack is a fault.", when="IndexError"),
            Hint("unknown-op", "An instruction that isn't in the table is \"unknown\", no KeyError.", when="KeyError"),
        ),
        limits=QUICK,
    ),
)  # fmt: skip

RUN_CPU = (
    Check(
        "00.2", "exits, jumps and what lies between", 1, "run_cpu", "exits_of", toys.loops, toys.same_trace,
        (
            Hint("walk", "Walk through the program with a finger: what is the first line where your exits part?"),
            Hint("stuck", "Move pc on before you leave, or the guest does the same OUT again for ever."),
            Hint("jnz-keeps", "JNZ takes its word off the stack, whether it jumps or not."),
            Hint("jnz-sense", "JNZ is \"jump if not zero\": on zero the guest goes on with the next instruction."),
            Hint("relative", "JNZ names the instruction that it jumps to: pc becomes the argument, nothing is added."),
            Hint("out-pops", "An exit leaves the stack alone: the monitor pops OUT's word.", when="pop from empty"),
            Hint("past-culprit", "A trap leaves pc at the instruction that failed: take the step back."),
            Hint("why", "A trap hands on the word that `compute` gave."),
            Hint("endless", "Does JNZ pop its word, and does pc move on?", when="still running|Endless"),
            PAIR,
        ),
        limits=QUICK,
    ),
    Check(
        "00.2b", "a trap points at the culprit", 1, "run_cpu", "exits_of", toys.culprits, toys.same_trace,
        (
            Hint("walk", "Walk through the program with a finger: what is the first line where your exits part?"),
            Hint("past-culprit", "A trap leaves pc at the instruction that failed: take the step back."),
            Hint("why", "A trap hands on the word that `compute` gave, whatever it is."),
            Hint("stuck", "Only a trap leaves pc where it is; HALT, IN and OUT leave it behind themselves."),
            Hint("jnz-keeps", "JNZ takes its word off the stack."),
            Hint("jnz-sense", "JNZ jumps if the word is not zero."),
            Hint("relative", "JNZ names the instruction that it jumps to: pc becomes the argument, nothing is added."),
            Hint("out-pops", "An exit leaves the stack alone: the monitor pops OUT's word.", when="pop from empty"),
            Hint("ignored", "`compute` returns a word when it can't go on: look at it, and make it a TRAP."),
            Hint("endless", "What if `compute` fails? Then run_cpu must leave its loop.", when="still running|Endless"),
            PAIR,
        ),
        limits=QUICK,
    ),
)  # fmt: skip

MONITOR_HINTS = (
    Hint("follow", "Follow one exit: who gives the word, who gets it, and what is on the stack before and after?"),
    Hint("word-stays", "OUT sends the top of the stack away: pop it."),
    Hint("no-answer", "IN wants an answer: push what the device's read() gives."),
    Hint("no-word", "A read where no device is gets an answer too: push 0xFFFF."),
    Hint("lost-word", "A write that nobody takes still uses up its word: pop first, then ask who owns the port."),
    Hint("zero", "Nobody drives the wires, so they float high: a read gives 0xFFFF, not 0."),
    Hint("narrow", "Words here have 16 bits: all ones is 0xFFFF."),
    Hint("which-end", 'Return the exit as it came: ("HALT", 0), or ("TRAP", why) with its reason.'),
    Hint("goes-on", "HALT and TRAP both end the guest: return at once, and don't run it again."),
    Hint("one-more", "The budget is a number of exits: exactly that many calls of run, not one more."),
    Hint(
        "endless", "Count the exits: for _ in range(budget). A guest may go on for ever.", when="budget|still running"
    ),
    Hint("no-device", "Not every port has a device: ask `port in ports` before you use it.", when="KeyError|NoneType"),
)

MONITOR = tuple(
    Check(id, title, 1, "monitor", "served", cases, verdict, MONITOR_HINTS, limits=QUICK)
    for id, title, cases, verdict in (
        ("00.3", "every exit reaches its device", toys.owned_ports, toys.same_service),
        ("00.3b", "where no device is, the wires float high", toys.floating_ports, toys.same_service),
        ("00.3c", "the guest always ends", toys.endings, toys.same_end),
    )
)

TOGETHER = (
    Check(
        "00.4", "your own virtual machine runs programs", 1, "stack_machine", "whole", toys.programs, toys.same_run,
        (
            Hint("parts", "Each part works alone? Then look how they are plugged: console, port 1, who calls whom."),
            Hint("console", "Port 1 needs one Console(typed) that you keep, and whose `printed` you return as bytes."),
            Hint("pair", "Return two things: what `monitor` returned, and the bytes that the console printed."),
            Hint("bridge", "`monitor` calls run(cpu), `run_cpu` wants two things: use a lambda.", when="argument"),
        ),
        needs=("compute", "run_cpu", "monitor"), limits=QUICK,
    ),
    Check(
        "00.5", "guests take turns on one CPU", 1, "take_turns", "turns_taken", toys.queues, toys.fair,
        (
            Hint("starved", "One turn each: nobody runs to the end while others wait."),
            Hint("skipped", "The classic mistake: removing from the list that the loop walks over skips the next one."),
            Hint("count", "Return how many turns were given in all."),
            Hint("endless", "A guest whose turn gave False must not come back.", when="Endless|still running"),
            Hint("ended", "A guest that has ended gets no more turns.", when="Error"),
        ),
        limits=QUICK,
    ),
)  # fmt: skip

FIELD = (
    Check(
        "00.6", "the holes of an instruction set", 1, "holes", "holes_found", hosts.instruction_sets, hosts.same_holes,
        (
            Hint("names", "Return the names, in the order of the list."),
            Hint("writes-only", "Reading counts too: a guest that can see that it lost its privilege is not fooled."),
            Hint("reads-only", "Writing counts too: think of popf, which fails without a word."),
            Hint("both", "Sensitive means that it reads the state *or* writes it."),
            Hint("brackets", "`and` binds tighter than `or`: put brackets around (reads or writes)."),
            Hint("traps", "What traps is under control. A hole is sensitive and does not trap."),
            Hint("harmless", "An instruction that neither reads nor writes the machine's state may run freely."),
        ),
        limits=QUICK,
    ),
    Check(
        "00.7", "four kinds of host", 1, "what_can_run", "host_read", hosts.hosts, hosts.same_verdict,
        (
            Hint("device", "Two questions, four words: does the CPU help (vmx or svm), and is /dev/kvm there?"),
            Hint("amd", "AMD's flag is svm; vmx is Intel's. Either will do."),
            Hint("inside", "The flag `hypervisor` says that this host is itself a guest."),
            Hint("pair", "Return two things: the word, and True or False."),
        ),
        limits=QUICK,
    ),
    Check(
        "00.7b", "flags are words on one line", 1, "what_can_run", "host_read", hosts.lookalikes, hosts.same_verdict,
        (
            Hint("substring", "Split the line into words: svm_lock is not svm."),
            Hint("whole-text", "Only the line `flags` counts: a model may be called anything."),
            Hint("line", "The line's name is exactly `flags`: `vmx flags` and `bugs` are other lines."),
            Hint("device", "Without the flag the CPU doesn't help, whatever else the text says."),
            Hint("amd", "AMD's flag is svm; vmx is Intel's. Either will do."),
            Hint("inside", "The flag `hypervisor` says that this host is itself a guest."),
            Hint("pair", "Return two things: the word, and True or False."),
            Hint("no-line", "There may be no line `flags` at all: then the set of flags is empty.",
                 when="IndexError|StopIteration|NoneType|ValueError"),
        ),
        limits=QUICK,
    ),
)  # fmt: skip

FIRST_GUEST_HINTS = (
    Hint("order", 'Load at 0x1000, enter "real" at 0x1000, run, and return the bytes of machine.console.'),
    Hint(
        "silent",
        "The guest never spoke. The classic mistake: the image at one address, the CPU at another, or in another mode.",
    ),
    Hint("never-ran", "Make a Machine, and run it: only a guest that runs can print."),
    Hint("endless", "A guest may never end: give machine.run its timeout.", when="still running"),
    Hint("text", "Return the bytes as they are: what a guest prints need not be text.", when="Unicode"),
    Hint("closed", "Read the console before you close the machine, and return bytes.", when="closed|KvmError"),
)
TYPED = Hint("typed", "What was typed goes in when the machine is made: Machine(input=typed).")


def first_guest(id: str, title: str, cases: Cases, *guests: str, extra: tuple[Hint, ...] = ()) -> Check:
    hints = (*extra, *FIRST_GUEST_HINTS)
    limits = QUICK if "spinner" in guests else PATIENT
    return Check(id, title, 1, "first_guest", "guest_run", cases, hosts.same_console, hints, guests, limits)


FIRST_GUEST = (
    first_guest("00.8", "the first guest speaks", hosts.greetings, "hello", "countdown"),
    first_guest("00.8b", "the image lies where it belongs", hosts.own_bytes, "checksum-real"),
    first_guest("00.8c", "what you type reaches the guest", hosts.typing, "port-echo", extra=(TYPED,)),
    first_guest("00.8d", "a guest that never ends is brought back", hosts.endless, "spinner"),
)

FATE_HINTS = (
    Hint("words", 'Four fates: "halted", "died", "runs for ever", and "exit code N" with the number of the stop.'),
    Hint(
        "never-ran", "Enter the guest in the mode that you are given: the same bytes are other instructions elsewhere."
    ),
    Hint(
        "endless", "A guest may never end: give machine.run its timeout, and look at the reason.", when="still running"
    ),
    Hint("lookup", "Not every reason is in your table: debug-exit has a number of its own.", when="KeyError"),
)


def fate(id: str, title: str, cases: Cases, *guests: str, hint: Hint) -> Check:
    limits = QUICK if "spinner" in guests else PATIENT
    hints = (hint, *FATE_HINTS)
    return Check(id, title, 1, "fate", "guest_ended", cases, hosts.same_fate, hints, guests, limits)


FATE = (
    fate("00.9", "halted, in three modes", hosts.halting, "real-hello", "protected-hello", "long-hello",
         hint=Hint("halted", "A HLT is a good end: its reason is \"halted\", and so is its word.")),
    fate("00.9b", "a last word", hosts.last_words, "debug-exit",
         hint=Hint("number", "The fourth fate is \"exit code N\", where N is stop.exit_code, different in each run.")),
    fate("00.9c", "a triple fault", hosts.dying, "triple-fault",
         hint=Hint("dead", "A triple fault is no halt: the reason is \"died\".")),
    fate("00.9d", "for ever", hosts.spinning, "spinner",
         hint=Hint("patience", "The reason \"timeout\" means that patience ran out: call it \"runs for ever\".")),
)  # fmt: skip

LAB = Lab(
    "00", "What is a virtual machine?", (*COMPUTE, *RUN_CPU, *MONITOR, *TOGETHER, *FIELD, *FIRST_GUEST, *FATE)
)  # fmt: skip
