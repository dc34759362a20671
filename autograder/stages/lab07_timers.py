"""Lab 07, timers: HLT until the next tick, the interrupt window, the local APIC's timer, a preemptive kernel."""

from __future__ import annotations

from typing import Any

from autograder.differences import in_words
from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.common import LOOP, console_lines, guest, on_console
from autograder.stages.lab07_common import one_value
from autograder.stages.lab07_models import apic_timer
from autograder.stages.models import Stream, expected_console

FOREVER = Hint(
    "forever", "The guest halted, or asked for a window, again and again: which of your branches ends the function, "
    "and is `request_interrupt_window` 0 when nothing is due?", when="more than 6000|request_interrupt_window",
)  # fmt: skip
SERVED = Hint(
    "served", "HLT is no device's business: look at `page.exit_reason` before you call `guest.serve`. (Any other exit "
    "here means that the guest has died, most likely by an interrupt that it could not take.)", when="no device's",
)  # fmt: skip

STRUCT = Hint(
    "struct", "KVM_INTERRUPT takes `struct(\"kvm_interrupt\", irq=timer.fire())`, on the vCPU's handle; "
    "`guest.serve(page)` takes the page.", when="EFAULT|TypeError|KeyError",
)  # fmt: skip

# ---- 07.4 run_timed ----


def sleeps(nonces: Nonces) -> list[Case]:
    """Ticks further apart than any work, but for one that comes while the guest still works."""
    cases = []
    for run, (count, ticks) in enumerate(((4, 4), (5, 3), (3, 6))):
        start, nonce = nonces.range(f"start{run}", 1, 10**6), nonces.u64(f"nonce{run}")
        due, now = [], start
        for number in range(ticks):
            now += nonces.range(f"gap{run}{number}", 4200, 9000)
            due.append(now)
        stream = Stream(nonce)
        first = start + (stream.next() >> 20)
        if run == 0 and first > start + 1:
            due[0] = first - 1  # the guest works past it
        parameters = {"nonce": nonce, "count": count}
        wanted = expected_console("tick-sleeper", parameters, due=due, start=start)
        label = f"{ticks} ticks to come and a guest that sleeps {count} times"
        inputs = {"start": start, "due": due} | guest("tick-sleeper", **parameters)
        cases.append(Case(inputs, {"console": wanted, "count": count}, label))
    return cases


def woken(case: Case, obs: Observation) -> Finding:
    wanted = case.expected["console"].decode().splitlines()
    actual = console_lines(obs)
    for number, line in enumerate(wanted):
        seen = actual[number] if number < len(actual) else "nothing"
        if seen == line:
            continue
        message = f"the guest's wake {number + 1} (time, interrupts, nonce): {seen!r} where {line!r} is expected"
        parts, right = seen.split(), line.split()
        if len(parts) != 3:
            return fail(message, "asleep")
        if parts[1] == f"{number:02x}":
            return fail(f"{message}; it woke without an interrupt", "no-interrupt")
        if parts[1] != right[1]:
            return fail(message, "twice")
        if obs.int("fired") != len(actual):
            return fail(f"{message}; the timer fired {obs.int('fired')} times", "twice")
        due, time = case.inputs["due"][number], int(parts[0], 16) if parts[0].isalnum() else 0
        return fail(message, "backwards" if time == due else "jump")
    if len(actual) > len(wanted):
        deaf = len(case.inputs["due"]) > case.expected["count"]  # it ran on behind its last HLT
        message = f"the guest woke {len(actual)} times where {len(wanted)} are expected"
        return fail(message, "deaf" if deaf else "no-interrupt")
    fired, most = obs.int("fired"), min(case.expected["count"], len(case.inputs["due"]))
    if fired > most:
        return fail(f"the timer fired {fired} times where {most} are expected: the guest's last HLT is deaf", "deaf")
    return OK


def windows(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(3):
        nonce, start, size, count = nonces.u64(f"nonce{run}"), nonces.range(f"start{run}", 1, 10**6), 3 + run, 5
        stream, now, due = Stream(nonce), start, []
        for number in range(count):
            before, now = now, now + sum(stream.next() >> 22 for _ in range(size))
            if number % 2 == 0 and now > before:
                due.append(nonces.range(f"due{run}{number}", before + 1, now + 1))
        parameters = {"nonce": nonce, "count": count, "size": size}
        wanted = expected_console("busy-worker", parameters, due=due, start=start)
        inputs = {"start": start, "due": due} | guest("busy-worker", **parameters)
        cases.append(Case(inputs, wanted, f"{len(due)} ticks, and {size} pieces of work with interrupts off a round"))
    return cases


def at_once(nonces: Nonces) -> Case:
    """Ticks that are due together. How soon the second comes depends on the host's KVM, so the loop's manners count."""
    parameters = {"nonce": nonces.u64("at once"), "count": 3, "size": 3}
    inputs = {"start": 1, "due": [2, 2, 3], "strict": True} | guest("busy-worker", **parameters)
    return Case(inputs, 3, "three ticks at once")


def busy(nonces: Nonces) -> list[Case]:
    return [*windows(nonces), at_once(nonces)]


def welcome(case: Case, obs: Observation) -> Finding:
    printed = obs.bytes("console")
    if b"!" in printed:
        return fail("the guest was interrupted while its interrupts were off (it printed `!`)", "not-ready")
    fired, ticks = obs.int("fired"), len(case.inputs["due"])
    if "strict" in case.inputs:
        done = fired > 0 and printed.count(b"\n") == case.expected
        return OK if done else fail("the guest did not come to its end, or no tick was delivered", "window")
    if fired < ticks and len(printed) == len(case.expected):
        return fail(f"the timer fired {fired} times while the guest ran; {ticks} ticks were due", "window")
    return on_console(obs, case.expected, "window")


# ---- 07.5 apic_timer ----


def a_wait(code: int) -> int:
    """By how many bits a wait is shortened, so that some waits make a period. The divide code says how slow it is."""
    return max(1, 22 - (0 if code == 0xB else (code & 3 | code >> 1 & 4) + 1)) - 1


def apic_case(nonces: Nonces, label: str, code: int, entry: int, words: str) -> Case:
    parameters = {"nonce": nonces.u64(label), "count": 7, "option": a_wait(code) + 2 << 8 | code, "value": entry}
    inputs = {"start": nonces.range(f"start {label}", 1, 10**6)} | guest("apic-ticker", **parameters)
    return Case(inputs, expected_console("apic-ticker", parameters), f"divide register {code:#06b}, {words}")


def one_shot(nonces: Nonces) -> list[Case]:
    return [apic_case(nonces, f"nonce{code}", code, 0x40, "one-shot") for code in (0xB, 0, 1, 3, 8, 10)]


def one_shot_and_its_end(nonces: Nonces) -> list[Case]:
    initial, late = nonces.range("initial", 100, 5000), nonces.range("late", 1, 20_000)
    return [
        *one_shot(nonces),
        asked("once", initial, 0xB, 0x40, initial - 1),
        asked("once", initial, 0xB, 0x40, initial),
        asked("once", initial, 0, 0x40, 2 * initial),
        asked("stopped", 0, 0xB, 0x40, late),
    ]


def asked(hint: str, initial: int, divide: int, entry: int, elapsed: int) -> Case:
    """One question without a guest, at a tick that no guest would hit by chance."""
    question = initial, divide, entry, elapsed
    inputs = {"calls": [list(question)], "hint": hint}
    words = f"apic_timer({initial}, {divide:#06b}, {entry:#x}, {elapsed})"
    return Case(inputs, apic_timer(*question), words)


def periodic(nonces: Nonces) -> list[Case]:
    initial = nonces.range("initial", 100, 5000)
    return [
        apic_case(nonces, "periodic", 0xB, 0x2_0040, "periodic"),
        apic_case(nonces, "divided", 9, 0x2_0040, "periodic"),
        apic_case(nonces, "masked", 1, 0x3_0040, "periodic and masked"),
        apic_case(nonces, "masked once", 0xB, 0x1_0040, "one-shot and masked"),
        asked("exactly", initial, 0xB, 0x2_0040, initial - 1),
        asked("exactly", initial, 0xB, 0x2_0040, initial),
        asked("exactly", initial, 9, 0x2_0040, 3 * 64 * initial),
        asked("stopped", 0, 0xB, 0x2_0040, initial),
    ]


def apic_with(case: Case, **wrong: Any) -> bytes:
    """What the guest would print of a timer with one mistake."""

    def timer(initial: int, divide: int, entry: int, elapsed: int) -> tuple[int, int]:
        code = divide & 3 | divide >> 1 & 4
        divisors = {"plain": 2 << (divide & 7), "two": 2 << (divide & 3), "power": 1 << code, "always": 2 << code}
        if "divide" in wrong:
            return apic_timer(initial, 0xB, entry, elapsed // divisors[wrong["divide"]])
        current, fired = apic_timer(initial, divide, entry & ~wrong.get("clear", 0) | wrong.get("set", 0), elapsed)
        if wrong.get("still"):
            current, _ = apic_timer(initial, divide, entry & ~0x2_0000, elapsed)
        return current, int(fired > 0) if wrong.get("once") else fired

    return expected_console("apic-ticker", case.inputs["parameters"], timer=timer)


APIC_MISTAKES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("divide", {"divide": "plain"}), ("divide", {"divide": "two"}), ("power", {"divide": "power"}),
    ("power", {"divide": "always"}), ("masked", {"clear": 0x1_0000}), ("one-shot", {"set": 0x2_0000}),
    ("periodic", {"clear": 0x2_0000}), ("each", {"once": True}), ("reload", {"still": True}),
)  # fmt: skip


def ran_down(case: Case, obs: Observation) -> Finding:
    if "calls" in case.inputs:
        return one_value(case, obs, {}, case.inputs["hint"], "(current count, interrupts)")
    printed = obs.bytes("console")
    if printed == case.expected:
        return OK
    key = next((key for key, wrong in APIC_MISTAKES if apic_with(case, **wrong) == printed), "count")
    return on_console(obs, case.expected, key)


APIC_HINTS = (
    Hint("count", "The counter goes down by one every `divisor` clocks, from `initial`: `initial - elapsed // "
         "divisor`. It says (current, interrupts so far)."),
    Hint("divide", "The divide configuration has three bits, and bit 2 isn't one of them: bits 0, 1 and 3. The "
         "classic mistake takes the register as a number."),
    Hint("power", "000 divides by 2, 001 by 4, … 110 by 128; and 111 divides by 1."),
    Hint("one-shot", "Without bit 17 in its entry the timer stops at 0 and has fired once."),
    Hint("periodic", "With bit 17 in its entry the timer starts again from `initial`, each time it gets to 0."),
    Hint("reload", "A periodic timer begins again: its current count never stays at 0."),
    Hint("each", "A periodic timer fires at the end of each period: count them all, `elapsed // (initial * divisor)`."),
    Hint("exactly", "A period is `initial` steps long: the step that would make it 0 loads `initial` again, and one "
         "more interrupt has come."),
    Hint("once", "The interrupt comes with the step in which the counter reaches 0, and not one later."),
    Hint("stopped", "An initial count of 0 stops the timer, whatever its mode: (0, 0).", when="ZeroDivision"),
    Hint("tuple", "`apic_timer` gives two whole numbers, (current count, interrupts so far)."),
    Hint("masked", "Bit 16 of the entry masks the interrupt. The counter runs nonetheless."),
    Hint("type", "`apic_timer` gives two whole numbers, (current count, interrupts so far).",
         when="TypeError|ValueError"),
    LOOP,
)  # fmt: skip

# ---- 07.10 PitTimer ----


def by_hand(nonces: Nonces) -> list[Case]:
    """A timer without a guest: what `next` and `fire` say. A None among the numbers is a None."""
    count, start = 2 * nonces.range("count", 500, 2000), nonces.range("start", 10**5, 10**6)
    idle, past = nonces.range("idle", 3 * count, 9 * count), nonces.range("past", 1, count)
    loaded = start + idle
    load = [["write", count & 0xFF], ["write", count >> 8]]
    late = [["wait", 2 * count + past]]
    periodic = [["next"], ["wait", idle], ["control", 0x34], *load, ["next"], *late, ["next"], ["fire"], ["next"]]
    once = [["wait", idle], ["control", 0x30], *load, ["next"], ["fire"], ["next"], *late, ["next"], ["fire"], ["next"]]
    return [
        Case({"start": start, "count": count, "script": periodic,
              "hints": ["early", "loaded", "seen", "vector", "forever"]},
             [None, loaded + count, loaded + count, 8, loaded + 3 * count],
             f"a timer that is loaded {idle} ticks after it was made, with {count} in mode 2"),
        Case({"start": start, "count": count, "script": once,
              "hints": ["loaded", "vector", "loaded", "seen", "vector", "over"]},
             [loaded + count, 8, loaded + count, loaded + count, 8, None], f"a timer that is loaded with {count} in "
             "mode 0"),
    ]  # fmt: skip


def answers_by_hand(case: Case, obs: Observation) -> Finding:
    questions = [step for step in case.inputs["script"] if step[0] in ("next", "fire")]
    seen = obs.list("answers")
    for number, ((name,), wanted, hint) in enumerate(zip(questions, case.expected, case.inputs["hints"], strict=True)):
        actual = seen[number] if number < len(seen) else "nothing"
        if type(actual) is type(wanted) and actual == wanted:
            continue
        odd = actual is not None and type(actual) is not int
        message = f"question {number + 1}, `{name}`: {in_words(actual)} where {in_words(wanted)} is expected"
        if name == "next" and not odd and actual in (case.inputs["count"], 3 * case.inputs["count"]):
            return fail(message, "clock")
        return fail(message, "property" if odd and name == "next" else hint)
    return OK


def timers(nonces: Nonces) -> list[Case]:
    return [*by_hand(nonces), *kernels(nonces)]


def kernels(nonces: Nonces) -> list[Case]:
    cases = []
    for run, (low, high) in enumerate(((900, 1500), (150, 400), (1500, 2200))):
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "count": 8, "value": nonces.range(f"value{run}", low, high)}
        wanted = expected_console("three-tasks", parameters)
        inputs = {"start": nonces.range(f"start{run}", 10**5, 10**6)} | guest("three-tasks", **parameters)
        cases.append(Case(inputs, wanted, f"a tick each {parameters['value']} ticks of the 8254"))
    return cases


def three_tasks(case: Case, obs: Observation) -> Finding:
    if "script" in case.inputs:
        return answers_by_hand(case, obs)
    if obs.raw("early") is not None:
        return fail("`next` is not None before the guest has loaded a count", "early")
    printed, wanted = obs.bytes("console"), case.expected
    if stuck := obs.ints("stuck"):
        return fail(
            f"at tick {stuck[0]} the timer has just fired, and `next` is {stuck[1]}: it is still due", "forever"
        )
    if printed == wanted:
        return OK
    if printed == b"A" * len(printed):
        return fail(f"only the first task ran: {printed.decode()!r} where {wanted.decode()!r} is expected", "no-ticks")
    return on_console(obs, wanted, "rhythm")


CHECKS = (
    Check(
        "07.4", "a guest sleeps until its next tick", 1,
        exercise="run_timed", driver="timed_guest", cases=sleeps, judge=woken, guests=("tick-sleeper",),
        hints=(
            Hint("asleep", "The guest still sleeps. At an HLT with interrupts on, move the clock on to `timer.next` "
                 "and let the interrupt wake it."),
            Hint("no-interrupt", "HLT ends by an interrupt and by nothing else. The classic mistake enters the guest "
                 "again: it goes on behind the HLT, as if something had happened."),
            Hint("backwards", "Time ran backwards. The tick had been due already when the guest went to sleep, and "
                 "`clock.now = timer.next` set the clock back: take the later of the two, `max`."),
            Hint("jump", "While a guest sleeps, time goes on to the next tick, neither less nor more."),
            Hint("twice", "The number of interrupts is wrong: `timer.fire()` says that a tick has come, so each call "
                 "belongs to exactly one KVM_INTERRUPT, and only when `timer.next <= clock.now`.", when="IndexError"),
            Hint("deaf", "The guest's last HLT has interrupts off: nothing can ever wake it. `page.if_flag` tells."),
            Hint("none", "`timer.next` is None when no tick is left to come.", when="NoneType"),
            STRUCT, FOREVER, SERVED, LOOP,
        ),
    ),
    Check(
        "07.4b", "an interrupt waits until it is welcome", 1,
        exercise="run_timed", driver="timed_guest", cases=busy, judge=welcome, guests=("busy-worker",),
        hints=(
            Hint("window", "The guest had its interrupts on, for a while without any exit, and the tick did not come. "
                 "The classic mistake looks only at exits: set `page.request_interrupt_window` to 1, and KVM leaves "
                 "the guest as soon as it will take an interrupt."),
            Hint("not-ready", "An interrupt may be queued only while `page.ready_for_interrupt_injection` is set."),
            Hint("window-open", "Far too many exits: `request_interrupt_window` stayed 1 with nothing to deliver. Set "
                 "it at each turn, to 0 as well.", when="more than 6000|request_interrupt_window"),
            Hint("none", "`timer.next` is None when no tick is left to come.", when="NoneType"),
            Hint("more", "Two ticks were due at once. Deliver one at each turn, for a second KVM_INTERRUPT would "
                 "replace the first; and ask for the window while another is due, also right behind a delivery.",
                 when="IndexError|before KVM_RUN|another tick is due"),
            STRUCT,
            Hint("queued", "KVM refused the interrupt: one is queued already, or the guest can't take it yet. Ask "
                 "`page.ready_for_interrupt_injection` first.", when="KVM_INTERRUPT"),
            SERVED, LOOP,
        ),
    ),
    Check(
        "07.5", "one shot: the divider, and the end", 1,
        exercise="apic_timer", driver="apic_under_a_guest", cases=one_shot_and_its_end, judge=ran_down,
        guests=("apic-ticker",), hints=APIC_HINTS,
    ),
    Check(
        "07.5b", "periodic, and masked", 1,
        exercise="apic_timer", driver="apic_under_a_guest", cases=periodic, judge=ran_down, guests=("apic-ticker",),
        hints=APIC_HINTS,
    ),
)  # fmt: skip

KERNEL = (
    Check(
        "07.10", "all together: three tasks that never yield", 2,
        exercise="PitTimer", driver="kernel_with_ticks", cases=timers, judge=three_tasks, guests=("three-tasks",),
        needs=("run_timed",),
        hints=(
            Hint("rhythm", "The tasks change at the wrong ticks. The next tick is the first rise behind the last one "
                 "that was taken (`seen`), and it counts from `start`. If an earlier task is red, mend that first."),
            Hint("no-ticks", "Nobody took the processor from the first task: is `next` None, or never due? Once a "
                 "count is loaded, `next` is `start` plus the next rise."),
            Hint("early", "A counter that was never loaded has no next rise: `start` is None, and so is `next`. Nor "
                 "has one of which `next_rise` says None.",
                 when="NoneType"),
            Hint("loaded", "The count was loaded long after the timer was made, so `seen` lies before `start`: count "
                 "from the load then, `max(self.seen - self.start, 0)`, with the counter's own mode."),
            Hint("seen", "A rise that nobody has taken yet stays the next one, also when it is over: count from "
                 "`seen`, not from the present."),
            Hint("clock", "That is counted from the load. `next` is a tick of the clock: `self.start` plus the rise."),
            Hint("over", "Mode 0 rises once. `next_rise` then says None, and so does `next`."),
            Hint("vector", "This kernel's timer has vector 8: `fire` returns it, each time.", when="no device's"),
            Hint("property", "`next` is a property, an attribute that is computed: leave its `@property`, and return "
                 "a number or None."),
            Hint("forever", "After `fire`, `next` must be later than the present, or the guest gets nothing but "
                 "interrupts: `fire` notes the present in `seen`, and `next` counts from `start`, as the clock does."),
            Hint("loop", "Your run loop never ends: mend `run_timed` first (07.4, 07.4b).",
                 when="more than 6000|still running|request_interrupt_window"),
        ),
    ),
)  # fmt: skip
