"""Lab 06, when a guest takes an interrupt: KVM_INTERRUPT, and the window that is asked for and shut again."""

from __future__ import annotations

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.lab06_bench import ENDS, bench, chips, console, ended, nest_script, pick, pulse, rounds
from autograder.stages.lab06_hints import hints


def one_offer(label: str, state: tuple[int, int, int]) -> Case:
    """One call by hand: (ready, IF, requests), and (calls of inta, KVM_INTERRUPTs, window) that it leads to. Behind an
    interrupt that was handed over the window may wait for the next exit: no chip lets another through before."""
    ready, _, waiting = state
    given = int(ready and waiting > 0)
    return Case(
        {"hand": list(state)}, (given, given, None if waiting > given > 0 else int(waiting > 0 and not given)), label
    )


def when_it_may(nonces: Nonces) -> list[Case]:
    return [
        rounds(nonces, "irq-window", nonces.range("rounds", 4, 7), "a guest that keeps interrupts off for a while"),
        rounds(nonces, "sti-hlt", nonces.range("naps", 3, 5), "a guest that sleeps by STI and HLT"),
        one_offer("a guest right behind its STI: IF is 1, and it is not ready yet", (0, 1, 1)),
    ]


def one_by_one(nonces: Nonces) -> list[Case]:
    lines = [pick(nonces, f"step {step}", 5) for step in range(3)]
    script = [[step, pulse(*numbers)] for step, numbers in enumerate(lines)]
    nest = chips(nonces, name="nest")
    return [
        bench("irq-log", chips(nonces), script, "five lines at once", {}),
        bench("irq-nest", nest, nest_script(nonces, True), "handlers that may be interrupted", {}),
        one_offer("a guest that is ready, and nothing that waits", (1, 1, 0)),
        one_offer("a guest that is ready, and one interrupt that waits", (1, 1, 1)),
        one_offer("a guest that is ready, and several interrupts that wait", (1, 1, nonces.range("several", 2, 5))),
    ]


def offered_by_hand(case: Case, obs: Observation) -> Finding:
    """One call of `offer`: calls of `inta`, interrupts handed over, the window that is asked for."""
    ready, _, waiting = case.inputs["hand"]
    hand = obs.list("hand")
    for number, (name, wanted) in enumerate(zip(("taken", "given", "window"), case.expected, strict=True)):
        actual = hand[number] if number < len(hand) else None
        if wanted is None or (actual == wanted and type(actual) is int):
            continue
        seen = actual if type(actual) is int else describe(actual)
        if name == "taken":
            hint = "asked" if not waiting else "early" if not ready else "one" if actual else "order"
            return fail(f"`inta` was called {seen} times where {wanted} is expected", hint)
        if name == "given":
            return fail(f"KVM_INTERRUPT was called {seen} times where {wanted} is expected", "order")
        text = f"`run.request_interrupt_window` is {seen} afterwards where {wanted} is expected"
        return fail(text, "window" if wanted else "flood")
    return OK


def offered(case: Case, obs: Observation) -> Finding:
    if "hand" in case.inputs:
        return offered_by_hand(case, obs)
    how = obs.str("stop")
    if obs.int("early"):
        return fail(f"`inta` was called while the guest took no interrupts ({obs.int('early')} times): the chip counts "
                    "the interrupt as taken", "early")  # fmt: skip
    if how == "asleep" and case.inputs["guest"] == "sti-hlt":
        return fail(ENDS["asleep"], "asleep")
    if obs.int("idle"):
        return fail(f"`run.request_interrupt_window` was left at 1 though nothing waited ({obs.int('idle')} times): "
                    "KVM_RUN then comes back at once, again and again", "flood")  # fmt: skip
    if how == "ended":
        seen = obs.bytes("console")
        hint = "early" if b"!" in seen else "never" if b"-" in seen else "order"
        return console(case, obs, hint)
    return ended(obs, hints={"timeout": "never"})


FLOOD = Hint(
    "flood", "KVM comes back at once for as long as `request_interrupt_window` is 1 and the guest takes interrupts. "
    "The classic mistake never sets it back to 0: the guest stands still.",
)  # fmt: skip
STRUCT = Hint(
    "struct", "KVM_INTERRUPT takes a pointer: `struct(\"kvm_interrupt\", irq=vector)`, on the vCPU's handle.",
    when="ENOTTY|EFAULT|EINVAL|TypeError|KeyError",
)  # fmt: skip
PAGE = Hint(
    "page", "The page is `run`. Of its fields you need `ready_for_interrupt_injection`, to look at, and "
    "`request_interrupt_window`, to set.", when="AttributeError",
)  # fmt: skip


CHECKS = (
    Check(
        "06.10", "an interrupt comes when the guest takes one, and not before", 1,
        exercise="offer", driver="interrupts_offered", cases=when_it_may, judge=offered,
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
            PAGE, FLOOD, STRUCT,
        ),
    ),
    Check(
        "06.10b", "one after the other, and the window shut again", 1,
        exercise="offer", driver="interrupts_offered", cases=one_by_one, judge=offered,
        guests=("irq-log", "irq-nest"),
        hints=hints(
            Hint("order", "An interrupt was lost or came late: before every entry, ask `intr()` again; hand over "
                 "one; and while more wait, ask for the window."),
            FLOOD,
            Hint("early", "KVM_INTERRUPT does not ask whether the guest takes interrupts; you must: see 06.10."),
            PAGE,
            Hint("asked", "Nothing waits, so there is nothing to acknowledge. `intr` is a function: call it, "
                 "`intr()`, to know."),
            Hint("one", "One interrupt at most each time: a second KVM_INTERRUPT would replace the first, or be "
                 "refused. `run.ready_for_interrupt_injection` is what it was at the last exit.", when="EEXIST"),
            STRUCT,
        ),
    ),
)  # fmt: skip
