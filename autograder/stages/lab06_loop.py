"""Lab 06, the run loop: it sleeps when the guest sleeps; and in the end all of the student's parts at once."""

from __future__ import annotations

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.lab06_bench import console, ended, rounds
from autograder.stages.lab06_hints import hints
from autograder.stages.lab06_keys import drawn, etching
from minivmm.kvm import (
    KVM_EXIT_FAIL_ENTRY,
    KVM_EXIT_HLT,
    KVM_EXIT_INTERNAL_ERROR,
    KVM_EXIT_IO,
    KVM_EXIT_IRQ_WINDOW_OPEN,
    KVM_EXIT_MMIO,
    KVM_EXIT_SHUTDOWN,
)

# ---- 06.11 work ----


def the_loop(nonces: Nonces) -> list[Case]:
    died = Case(
        {"guest": "gate-caller", "parameters": {"nonce": nonces.u64("dead"), "address": 0x20000}, "script": [],
         "bursts": []},
        {"raises": True},
        "a guest that dies of a triple fault",
    )  # fmt: skip
    window = rounds(nonces, "irq-window", 3, "a guest that keeps interrupts off for a while")
    window.inputs["bursts"], window.expected["answers"] = [], ["halted"]
    return [
        etching(nonces, "keys", [1, 3, 2], "keys in three bursts"),
        window,
        etching(nonces, "open", [2, 1], "a guest that goes on sleeping", escape=False),
        died,
        one_exit_of_each_kind(nonces),
    ]


# Exits that no guest of this lab makes; whichever comes, nobody handles it.
UNHANDLED = {"MMIO": KVM_EXIT_MMIO, "FAIL_ENTRY": KVM_EXIT_FAIL_ENTRY, "INTERNAL_ERROR": KVM_EXIT_INTERNAL_ERROR}


def one_exit_of_each_kind(nonces: Nonces) -> Case:
    """Exits without a guest: [reason, IF, whether an interrupt waits] each, and the loop's calls around them."""
    name = nonces.choice("unhandled", tuple(UNHANDLED))
    acts = [[KVM_EXIT_IO, 1, 0], [KVM_EXIT_IRQ_WINDOW_OPEN, 1, 1], [KVM_EXIT_HLT, 1, 1], [UNHANDLED[name], 1, 0]]
    told = ["offer", "go", "serve", "offer", "go", "offer", "go", "offer", "go"]
    return Case({"acts": acts}, {"told": told, "name": name}, "one exit of each kind, the last one unheard of")


def acted(case: Case, obs: Observation) -> Finding:
    told, wanted, name = obs.list("told"), case.expected["told"], case.expected["name"]
    for number, call in enumerate(wanted):
        actual = told[number] if number < len(told) else "nothing"
        if actual != call:
            shown = actual if isinstance(actual, str) else describe(actual)
            text = f"call {number + 1} of the loop was `{shown}` where `{call}` is expected"
            return fail(text, "raised" if "serve" in (actual, call) else "answer" if actual == "nothing" else "keys")
    if obs.str("raised") != "RuntimeError" or len(told) > len(wanted):
        return fail(f"KVM_EXIT_{name} came, which nobody handles, and no RuntimeError was raised", "unknown")
    return named(obs, name, UNHANDLED[name])


def named(obs: Observation, name: str, number: int) -> Finding:
    """The error says which exit it was, by its name or its number."""
    why = obs.str("why")
    told = str(number) in why or name in why.upper()
    return OK if told else fail(f"RuntimeError says {why!r}, and not which exit it was", "reason")


def worked(case: Case, obs: Observation) -> Finding:
    if "acts" in case.inputs:
        return acted(case, obs)
    how = obs.str("stop")
    if case.expected.get("raises"):
        if how == "raised":
            return named(obs, "SHUTDOWN", KVM_EXIT_SHUTDOWN)
        answer = (obs.list("answers") or [None])[-1]
        said = f"the answer was {answer!r}" if isinstance(answer, str) else "nothing was raised"
        return fail(f"the guest is dead (KVM_EXIT_SHUTDOWN) and {said}, where RuntimeError is expected", "unknown")
    if obs.int("misserved"):
        return fail(f"`serve` was called for an exit that is no port access ({obs.int('misserved')} times)", "raised")
    if how == "raised":
        return fail(f"RuntimeError: {obs.str('why')}", "raised")
    if how != "returned":
        return ended(obs, "returned")
    answers, wanted = obs.list("answers"), case.expected["answers"]
    for number, answer in enumerate(wanted):
        actual = answers[number] if number < len(answers) else None
        if actual != answer:
            seen = repr(actual) if isinstance(actual, str) else describe(actual)
            when = "before any key was typed" if not number else f"after burst {number} of keys"
            return fail(f"{when} the answer was {seen} where {answer!r} is expected", "answer")
    return drawn(case, obs, "keys") if "screen" in case.expected else console(case, obs, "keys")


# ---- 06.12b, all parts together ----


def all_parts(nonces: Nonces) -> list[Case]:
    """One scan code at a time: no request ever waits for the window, which may open sooner or later."""
    case = etching(nonces, "all", [nonces.range("size", 8, 14)], "keys one by one")
    (typed,) = case.inputs["bursts"]
    case.inputs["bursts"] = [bytes([code]) for code in typed]
    case.expected["answers"] = ["asleep"] * len(typed) + ["halted"]
    return [case]


def all_of_it(case: Case, obs: Observation) -> Finding:
    finding = worked(case, obs)
    if finding.ok and obs.int("idle"):
        finding = fail("`run.request_interrupt_window` was left at 1 though nothing waited")
    return finding if finding.ok else fail(f"all your parts together: {finding.message}", "parts")


CHECKS = (
    Check(
        "06.11", "a loop that sleeps when the guest sleeps", 1,
        exercise="work", driver="typed_guest", cases=the_loop, judge=worked,
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
)  # fmt: skip


ALL_PARTS = (
    Check(
        "06.12b", "all your parts together", 1,
        exercise="read_keyboard", driver="whole_machine", cases=all_parts, judge=all_of_it,
        needs=("set_line", "request", "acknowledge", "write", "intr", "inta", "work"),
        guests=("etch",),
        hints=hints(
            Hint("parts", "This guest runs on your chips, your keyboard and your loop. If another check is red, "
                 "mend that first; this one follows.", when="."),
        ),
    ),
)  # fmt: skip
