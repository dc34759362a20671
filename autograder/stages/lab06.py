"""Lab 06, interrupts: what is checked. Cases are in lab06_cases, judges in lab06_judges, models of guests in
lab06_models."""

from __future__ import annotations

from autograder.model import Check, Hint, Lab
from autograder.stages import lab06_cases as cases
from autograder.stages import lab06_judges as judges
from autograder.stages.lab06_hints import hints
from autograder.stages.lab06_stretch import STRETCH

LINE_HINTS = (
    Hint("masked", "A masked line is requested all the same: the mask (`chip.imr`) holds it back later, when `request` "
         "looks. Else a key that is struck while its line is masked would be lost."),
    Hint("served", "A line in service may be requested again: it waits in `chip.irr` until its handler is done."),
    Hint("stays", "A request of an edge stays when its line falls: that is the point of an edge. Only a level takes "
         "its request back, and the line's own bit in `chip.elcr` says which it is."),
    Hint("others", "This line's bit changes and no other: `|= bit` sets it, `&= ~bit` clears it. What is in service is "
         "the processor's business. (The classic mistakes: `=` for `|=`; all of `chip.lines` or `chip.elcr` looked "
         "at, not this line's bit; `^=`.)"),
)  # fmt: skip

PAGE = Hint(
    "page", "The page is `run`. Of its fields you need `ready_for_interrupt_injection`, to look at, and "
    "`request_interrupt_window`, to set.", when="AttributeError",
)  # fmt: skip

LAB = Lab(
    "06",
    "Interrupts",
    checks=(
        Check(
            "06.1", "a vector of real mode leads to your handler", 1,
            exercise="hook", driver="vectors_hooked", cases=cases.hooked, judge=judges.hooked,
            guests=("ivt-caller",),
            hints=hints(
                Hint("pointer", "The table entry at `4 * vector` is two words: first the offset, then the segment, "
                     "each little-endian."),
                Hint("order", "Offset and segment have changed places. A far pointer lies in memory as x86 numbers "
                     "do, low part first: the offset comes first."),
                Hint("place", "The pointer is in the table, but not in the vector's place. An entry has 4 bytes, so "
                     "that of vector n begins at 4 * n; the classic mistake is n itself, or 8 * n."),
                Hint("old", "The old pointer must be read *before* the new one is written, and from the same place."),
                Hint("old-order", "The answer is (segment, offset), in this order, as people write 0x1234:0x0010; in "
                     "memory the offset comes first."),
                Hint("return", "Return the old pointer: two numbers, (segment, offset). `int.from_bytes(data, "
                     "\"little\")` makes a number of two bytes."),
                Hint("old-bytes", "The old pointer has its bytes the wrong way round: in memory the low byte comes "
                     "first, so `int.from_bytes(data, \"little\")`."),
                Hint("types", "Guest memory takes bytes: `number.to_bytes(2, \"little\")`.",
                     when="TypeError|ValueError|OverflowError"),
            ),
        ),
        Check(
            "06.2", "a 64-bit gate leads to a handler anywhere", 1,
            exercise="gate", driver="exception_gates", cases=cases.gates, judge=judges.gate,
            guests=("gate-caller",),
            hints=hints(
                Hint("sixteen", "A gate has 16 bytes: offset 2, selector 2, IST 1, type 1, offset 2, offset 4, and "
                     "four zeros."),
                Hint("offset", "The handler's address is cut in three: bits 0–15 go to bytes 0–1, bits 16–31 to bytes "
                     "6–7, each little-endian. The classic mistake puts the parts side by side, as if they were one."),
                Hint("high", "Bits 32–63 of the address go to bytes 8–11. The classic mistake is to forget them, for "
                     "as long as all handlers are below 4 GiB nobody notices."),
                Hint("selector", "Bytes 2–3 are the selector of a 64-bit code segment, as given."),
                Hint("type", "Byte 5 is 0x8E for an interrupt gate and 0x8F for a trap gate: present (bit 7), DPL 0, "
                     "type 14 or 15. The classic mistakes: the present bit forgotten, and the types exchanged."),
                Hint("zeros", "Byte 4 is 0 (IST: another stack from the task's segment, which nobody has set up), and "
                     "so are bytes 12–15."),
                Hint("types", "A piece of the address does not fit its field: mask it (`& 0xFFFF`) before "
                     "`to_bytes`.", when="OverflowError"),
                Hint("bytes", "Join pieces of bytes with +; one number becomes bytes by `to_bytes`.",
                     when="TypeError|ValueError|struct"),
            ),
        ),
        Check(
            "06.3", "an edge is one request", 1,
            exercise="set_line", driver="on_the_bench", cases=cases.an_edge,
            judge=judges.lines("rise", "again", "later"),
            guests=("irq-log",),
            hints=hints(
                Hint("rise", "A line that goes up sets its bit in `chip.irr`: bit n for line n."),
                Hint("again", "A line that *stays* up is no new edge. The classic mistake looks at `level` alone; an "
                     "edge is a line that is up now and was down before: that is what `chip.lines` is for."),
                Hint("later", "After the line has been down, the next rise is a new edge. The classic mistake is not "
                     "to note in `chip.lines` that the line went down (or up), or to note it before it has been "
                     "looked at."),
                *LINE_HINTS,
            ),
        ),
        Check(
            "06.3b", "a level is a request for as long as it lasts", 1,
            exercise="set_line", driver="on_the_bench", cases=cases.a_level,
            judge=judges.lines("rise", "falls", "lasts"),
            guests=("irq-shared",),
            hints=hints(
                Hint("lasts", "A level-triggered line (its bit in `chip.elcr` is 1) requests again as long as it is "
                     "up, whatever it was before. With two devices on it, an edge would lose the second one."),
                Hint("rise", "A line that goes up sets its bit in `chip.irr`: bit n for line n."),
                Hint("falls", "A level-triggered line that falls takes its request with it; an edge-triggered one "
                     "does not. The classic mistake keeps the request: then an interrupt comes that nobody wants."),
                *LINE_HINTS,
            ),
        ),
        Check(
            "06.4", "the lowest number that isn't masked goes first", 1,
            exercise="request", driver="on_the_bench", cases=cases.who_is_first,
            judge=judges.first_line("mask", "order", "missed"),
            guests=("irq-log",),
            hints=hints(
                Hint("order", "Line 0 has the highest priority, line 7 the lowest: look from 0 up, and return the "
                     "first line that is requested and not masked."),
                Hint("zero", "Line 0 is a line like any other. The classic mistake is `if number:` or `number or "
                     "None`, which take the number 0 for nothing."),
                Hint("mask", "This line is masked: a 1 in `chip.imr` holds it back. The classic mistake takes the mask "
                     "for a list of what is allowed; `chip.irr & ~chip.imr` is what waits."),
                Hint("none", "No line: return None. The classic mistake returns 0 or -1; 0 is the timer's line.",
                     when="ValueError|IndexError"),
                Hint("missed", "A line waits in `chip.irr`, and nothing holds it up. The classic mistakes: the mask "
                     "taken for a list of what is allowed (a 0 in `chip.imr` lets a line through); and `range(7)`, "
                     "which leaves out line 7."),
                Hint("number", "The *number* of a line that is requested, 0 to 7, is asked for: not its bit, and not "
                     "its vector."),
                Hint("touched", "`request` is a question: it changes nothing. Taking the request is `acknowledge`'s."),
            ),
        ),
        Check(
            "06.4b", "what is in service holds up its equals and its inferiors", 1,
            exercise="request", driver="on_the_bench", cases=cases.who_must_wait,
            judge=judges.first_line("service", "service", "service"),
            guests=("irq-nest",),
            hints=hints(
                Hint("service", "A line in service (`chip.isr`) holds up itself and all lines with higher numbers; "
                     "lower numbers may interrupt it, even if it is masked meanwhile. The classic mistakes: `isr` is "
                     "not looked at; it stops everything; or the line that is in service interrupts itself."),
                Hint("none", "The waiting line is not more urgent than the one in service: return None.",
                     when="ValueError|IndexError"),
                Hint("zero", "Line 0 is a line like any other, and more urgent than all of them."),
                Hint("number", "The *number* of a line that is requested, 0 to 7, is asked for: not its bit, and not "
                     "its vector."),
                Hint("touched", "`request` is a question: it changes nothing. Taking the request is `acknowledge`'s."),
            ),
        ),
        Check(
            "06.5", "a request that is taken is in service", 1,
            exercise="acknowledge", driver="on_the_bench", cases=cases.taken, judge=judges.acknowledged,
            guests=("irq-nest", "irq-shared"),
            hints=hints(
                Hint("vector", "The vector is `chip.base + number`."),
                Hint("isr", "The line is in service from now on: its bit in `chip.isr` becomes 1, and the other bits "
                     "stay. The classic mistake assigns (`=`) where bits should be added (`|=`)."),
                Hint("irr", "An edge's request is taken: its bit in `chip.irr` becomes 0, and only its bit."),
                Hint("level", "A level-triggered line is still up: its request stays until the *line* falls. The "
                     "classic mistake clears it as if it were an edge, and the second device on the line waits for "
                     "ever."),
                Hint("zero", "Line 0 is a line like any other. The classic mistake is `if not number`, which takes it "
                     "for None; ask `number is None`."),
                Hint("imr", "The mask belongs to the guest; an interrupt does not change it."),
                Hint("lines", "Whether a line is up is the device's affair: an acknowledge moves no line."),
            ),
        ),
        Check(
            "06.5b", "no request left: the spurious IRQ7", 1,
            exercise="acknowledge", driver="on_the_bench", cases=cases.nobody_there, judge=judges.spurious,
            guests=("irq-spurious",),
            hints=hints(
                Hint("seven", "The processor has asked and must get a vector: with no request left (`number` is "
                     "None) it is `chip.base + 7`.", when="TypeError"),
                Hint("untouched", "A spurious interrupt is nobody's: `isr` and `irr` stay as they are. The classic "
                     "mistake puts line 7 in service; a guest that is careful sends no end for it, and lines 7 and "
                     "up never come again."),
            ),
        ),
        Check(
            "06.6", "the usual end: the most urgent in service", 1,
            exercise="end_of_interrupt", driver="on_the_bench", cases=cases.the_usual_end,
            judge=judges.ends("highest"),
            guests=("irq-nest",),
            hints=hints(
                Hint("highest", "The command 0x20 names no line: it ends the one with the *lowest* number in service, "
                     "which is the one that began last. The classic mistakes: all of `isr` is cleared, or the "
                     "highest number."),
                Hint("requests", "An end touches `isr` only: what is requested meanwhile must come later."),
                Hint("no-eoi", "Nothing to end: leave the chip alone.", when="ValueError|IndexError|TypeError"),
            ),
        ),
        Check(
            "06.6b", "the specific end, and commands that end nothing", 1,
            exercise="end_of_interrupt", driver="on_the_bench", cases=cases.the_other_ends,
            judge=judges.ends("specific"),
            guests=("irq-nest",),
            hints=hints(
                Hint("specific", "With bit 6 set the command names its line in bits 0–2: that one ends, and no "
                     "other. The classic mistakes: treated as 0x20; or the bit *toggled* (`^=`), which puts a line "
                     "in service that was not."),
                Hint("no-eoi", "Without bit 5 (0x20) a command ends nothing: 0x40 is no operation, 0x00 and 0x80 are "
                     "about priorities.", when="ValueError"),
                Hint("rotate", "Bit 5 says that an interrupt ends, whatever bit 7 says: 0xA0 ends as 0x20 does, "
                     "0xE0 + n as 0x60 + n. The classic mistake compares the whole byte; test its bits."),
                Hint("requests", "An end touches `isr` only: what is requested meanwhile must come later."),
            ),
        ),
        Check(
            "06.7", "four words to begin, then masks and commands", 1,
            exercise="write", driver="on_the_bench", cases=cases.written, judge=judges.written,
            guests=("irq-log", "irq-spurious"),
            hints=hints(
                Hint("words", "The data port takes ICW2, ICW3 and ICW4 after an ICW1, in this order, and is the mask "
                     "(OCW1) at all other times. The classic mistake never comes back to the mask, or takes the "
                     "next word for it: `chip.icw` says which word comes."),
                Hint("base", "ICW2 is the vector of line 0; its low three bits don't count: `value & 0xF8`."),
                Hint("icw1", "Bit 4 on the command port is ICW1, whatever the other bits are: it starts the sequence "
                     "anew, clears the mask, and reads show the IRR again. The classic mistakes: the old mask stays; "
                     "the whole byte is compared with 0x11; bit 3 is tested before bit 4."),
                Hint("edges", "ICW1 forgets the requests by edge and keeps those by level: of `chip.irr` the bits of "
                     "`chip.elcr` are left. Nothing else here touches the requests."),
                Hint("ocw3", "Bits 4–3 = 01 on the command port are OCW3. If bit 1 is set, bit 0 says what is read: "
                     "1 the ISR, 0 the IRR. Without bit 1 nothing changes."),
                Hint("ocw2", "Bits 4–3 = 00 on the command port are OCW2: hand it to your `end_of_interrupt`."),
            ),
        ),
        Check(
            "06.8", "the slave's requests reach the master", 1,
            exercise="intr", driver="on_the_bench", cases=cases.cascade,
            judge=judges.pair("answer", "wire", "wire"),
            guests=("irq-log",),
            hints=hints(
                Hint("answer", "INTR is up if the *master* has a request, its own or the slave's by line 2: return "
                     "True or False, after line 2 has been set. The classic mistake takes the number for a truth: 0 is "
                     "a line, too, at the master (the timer) and at the slave (line 8)."),
                Hint("wire", "Line 2 of the master *is* the slave's output: up while the slave has a request, down "
                     "when it has none. The classic mistakes: only raised, so that it never makes a second edge; or "
                     "raised for requests that the slave has masked (`slave.irr` in place of `request(slave)`)."),
            ),
        ),
        Check(
            "06.9", "the vector comes from the chip that has the line", 1,
            exercise="inta", driver="on_the_bench", cases=cases.both_vectors,
            judge=judges.pair("vector", "both", "wire"),
            guests=("irq-log",),
            hints=hints(
                Hint("vector", "Return what `acknowledge` gave: the master's vector, or the *slave's* if the master's "
                     "line is 2. For any other line the slave is not asked, whatever it has."),
                Hint("both", "For a line of the slave's both chips are acknowledged: the slave's line, and line 2 of "
                     "the master, are in service. The classic mistake leaves the master out, and the guest's second "
                     "EOI ends somebody else's interrupt."),
                Hint("wire", "After the slave has been acknowledged its output falls: let line 2 of the master fall "
                     "with it (call `intr`). The classic mistake leaves the wire up: the next request of the slave "
                     "makes no edge and is lost."),
            ),
        ),
        Check(
            "06.9b", "spurious at either chip", 1,
            exercise="inta", driver="on_the_bench", cases=cases.both_spurious,
            judge=judges.pair("vector", "master", "master"),
            guests=("irq-spurious",),
            hints=hints(
                Hint("vector", "`request` may be None, at the master and at the slave: hand that on to `acknowledge`, "
                     "which knows what to do. A slave without a request gives *its* line 7: IRQ15.",
                     when="TypeError"),
                Hint("master", "Behind a spurious IRQ15 the master did have a request, on line 2: it is in service at "
                     "the master, and nothing is at the slave."),
            ),
        ),
        Check(
            "06.10", "an interrupt comes when the guest takes one, and not before", 1,
            exercise="offer", driver="interrupts_offered", cases=cases.when_it_may, judge=judges.offered,
            guests=("irq-window", "sti-hlt"),
            hints=hints(
                Hint("early", "KVM_INTERRUPT does not ask whether the guest takes interrupts; you must. Only if "
                     "`run.ready_for_interrupt_injection` is 1 may `inta` be called and a vector handed over."),
                Hint("never", "The guest switched interrupts on and no exit told you so. The classic mistake: the "
                     "interrupt waits for the next exit, by chance. `run.request_interrupt_window = 1` asks KVM to "
                     "come back as soon as the guest takes one."),
                Hint("asleep", "The guest fell asleep while an interrupt waited: it must be offered before the next "
                     "entry."),
                Hint("order", "Something else than one interrupt a round arrived: one `inta`, one KVM_INTERRUPT."),
                Hint("window", "A request waits and the guest is not ready: ask for the window."),
                PAGE,
                Hint("flood", "KVM comes back at once for as long as `request_interrupt_window` is 1 and the guest "
                     "takes interrupts. The classic mistake never sets it back to 0: the guest stands still."),
                Hint("struct", "KVM_INTERRUPT takes a pointer: `struct(\"kvm_interrupt\", irq=vector)`, on the vCPU's "
                     "handle.", when="ENOTTY|EFAULT|EINVAL|TypeError|KeyError"),
            ),
        ),
        Check(
            "06.10b", "one after the other, and the window shut again", 1,
            exercise="offer", driver="interrupts_offered", cases=cases.one_by_one, judge=judges.offered,
            guests=("irq-log", "irq-nest"),
            hints=hints(
                Hint("order", "An interrupt was lost or came late: before every entry, ask `intr()` again; hand over "
                     "one; and while more wait, ask for the window."),
                Hint("flood", "KVM comes back at once for as long as `request_interrupt_window` is 1 and the guest "
                     "takes interrupts. The classic mistake never sets it back to 0: the guest stands still."),
                Hint("early", "KVM_INTERRUPT does not ask whether the guest takes interrupts; you must: see 06.10."),
                PAGE,
                Hint("asked", "Nothing waits, so there is nothing to acknowledge. `intr` is a function: call it, "
                     "`intr()`, to know."),
                Hint("one", "One interrupt at most each time: a second KVM_INTERRUPT would replace the first, or be "
                     "refused. `run.ready_for_interrupt_injection` is what it was at the last exit.", when="EEXIST"),
                Hint("struct", "KVM_INTERRUPT takes a pointer: `struct(\"kvm_interrupt\", irq=vector)`, on the vCPU's "
                     "handle.", when="ENOTTY|EFAULT|EINVAL|TypeError|KeyError"),
            ),
        ),
        Check(
            "06.11", "a loop that sleeps when the guest sleeps", 1,
            exercise="work", driver="typed_guest", cases=cases.the_loop, judge=judges.worked,
            guests=("etch", "gate-caller"),
            hints=hints(
                Hint("answer", "HLT with interrupts off (`run.if_flag` is 0) is the end, \"halted\". With interrupts "
                     "on it means \"asleep\", but only if `intr()` has nothing: else go on, and offer it. If all comes "
                     "one key late: `offer` first, then `go()`. If the guest stops in the middle: the loop must go "
                     "on until it halts or sleeps."),
                Hint("endless", "The guest sleeps, and the loop wakes it again and again without an interrupt. HLT "
                     "with nothing to come: return \"asleep\". Or `offer` is not called before *each* entry."),
                Hint("keys", "Before *each* entry the guest is offered an interrupt: `offer(…)`, then `go()`."),
                Hint("unknown", "An exit that nobody handles must raise RuntimeError. The classic mistake is an `else` "
                     "that hopes for the best.", when="ValueError|KeyError|Exception:|AssertionError"),
                Hint("reason", "Who reads the error must know what happened: `f\"exit {run.exit_reason}\"`, say."),
                Hint("raised", "Why the guest stopped is in `run.exit_reason`, once `go()` is back. KVM_EXIT_IO, and "
                     "nothing else, goes to `serve(run)`; KVM_EXIT_IRQ_WINDOW_OPEN needs nothing: it only brings you "
                     "back to `offer`."),
                Hint("call", "`go()` and `intr()` take nothing, `serve(run)` the page, and `offer(vcpu, run, intr, "
                     "inta)` the two functions themselves.", when="TypeError"),
            ),
        ),
        Check(
            "06.12", "a keyboard that interrupts for each byte", 1,
            exercise="read_keyboard", driver="etch_a_sketch", cases=cases.keys, judge=judges.keyboard,
            guests=("etch",),
            hints=hints(
                Hint("status", "Port 0x64 has bit 0 set while a byte waits, and port 0x60 gives the byte that came "
                     "first. Return a number for both, and let a look at the status take nothing away.",
                     when="TypeError"),
                Hint("order", "The bytes come in the order in which they were typed, and each one once: take it from "
                     "the front, `waiting.pop(0)`. Reading the *status* takes nothing."),
                Hint("edge", "Each byte needs an edge of its own. The classic mistake leaves the line up when the "
                     "first byte is read: let it fall, and raise it again if, and only if, another byte waits."),
                Hint("empty", "No byte waits: port 0x60 gives 0, and nothing goes wrong.", when="IndexError"),
                Hint("taken", "The byte must leave the keyboard. `waiting.pop(0)` changes the keyboard's own bytes; "
                     "`waiting = waiting[1:]` only makes the name mean something else."),
                Hint("endless", "Interrupts without end: the line is to be raised only while a byte waits, and a byte "
                     "that was read waits no more."),
            ),
        ),
        Check(
            "06.12b", "all your parts together", 1,
            exercise="read_keyboard", driver="whole_machine", cases=cases.all_of_it, judge=judges.all_of_it,
            needs=("set_line", "request", "acknowledge", "write", "intr", "inta", "work"),
            guests=("etch",),
            hints=hints(
                Hint("parts", "This guest runs on your chips, your keyboard and your loop. If another check is red, "
                     "mend that first; this one follows.", when="."),
            ),
        ),
        Check(
            "06.13", "a line of KVM's own chips", 1,
            exercise="strike", driver="chips_in_the_kernel", cases=cases.struck, judge=judges.struck,
            guests=("irq-log",),
            hints=hints(
                Hint("ioctl", "`ioctl(vm, KVM_IRQ_LINE, struct(\"kvm_irq_level\", irq=…, level=…))`, on the VM's "
                     "handle.", when="ENOTTY|EFAULT|EINVAL|TypeError|AttributeError"),
                Hint("falls", "An edge needs a line that goes up *and* down. The classic mistake only raises it: the "
                     "first strike works, the second is no edge, and no key is ever heard again."),
                Hint("line", "`irq` is the number of the line, 0 to 15, not a vector; `level` is 1 or 0."),
                Hint("once", "One strike is one edge: up once, and down once."),
            ),
        ),
        *STRETCH,
    ),
)  # fmt: skip
