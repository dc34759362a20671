"""Lab 07, a run loop with a timer: HLT until the next tick, and ticks that wait for the window."""

from __future__ import annotations

from autograder.differences import in_words
from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.common import LOOP, console_lines, guest, on_console, suited
from autograder.stages.models import Stream, expected_console
from minivmm.kvm import KVM_EXIT_HLT, KVM_EXIT_IO, KVM_EXIT_IRQ_WINDOW_OPEN

NO_TICK = Hint("none", "`timer.next` is None when no tick is left to come.", when="NoneType")
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


# ---- 07.4, HLT ----


def sleeps(nonces: Nonces) -> list[Case]:
    """Ticks further apart than any work, but for one that comes while the guest still works."""
    cases = []
    for run, (count, ticks) in enumerate(((4, 4), (5, 3), (3, 6))):
        start = nonces.range(f"start{run}", 1, 10**6)
        nonce = suited(nonces.u64, f"nonce{run}", lambda it: Stream(it).next() >> 20 > 1)
        due, now = [], start
        for number in range(ticks):
            now += nonces.range(f"gap{run}{number}", 4200, 9000)
            due.append(now)
        stream = Stream(nonce)
        first = start + (stream.next() >> 20)
        if run == 0:
            due[0] = first - 1  # the guest works past it
        parameters = {"nonce": nonce, "count": count}
        wanted = expected_console("tick-sleeper", parameters, due=due, start=start)
        label = f"{ticks} ticks to come and a guest that sleeps {count} times"
        inputs = {"start": start, "due": due} | guest("tick-sleeper", **parameters)
        cases.append(Case(inputs, {"console": wanted, "count": count}, label))
    return cases


def last_hlt(nonces: Nonces) -> Case:
    """A guest that is acted: two HLTs that a tick ends, and one with interrupts off, though a tick is still to come."""
    start, gaps = nonces.range("stage", 1, 10**6), [nonces.range(f"nap{number}", 100, 900) for number in range(3)]
    due = [start + sum(gaps[: number + 1]) for number in range(3)]
    asleep, deaf = ({"exit": KVM_EXIT_HLT, "flag": flag, "ready": flag, "work": [50]} for flag in (1, 0))
    inputs = {"start": start, "due": due, "vector": 8, "acts": [asleep, asleep, deaf]} | guest("worker")
    return Case(inputs, [[[], 0], [[8], 0], [[8], 0]], "a guest that sleeps twice, and then halts for good")


def naps(nonces: Nonces) -> list[Case]:
    *others, deaf = sleeps(nonces)
    return [*others, last_hlt(nonces), deaf]


ASLEEP = {"each-exit": "no-interrupt", "not-ready": "twice", "vector": "twice", "window": "forever"}


def woken(case: Case, obs: Observation) -> Finding:
    if "acts" in case.inputs:
        finding = entered(case, obs)
        return finding if finding.ok else fail(finding.message, ASLEEP.get(finding.hint, "forever"))
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
        due = f"{case.inputs['due'][number] & 0xFFFF_FFFF:08x}"
        return fail(message, "backwards" if parts[0] == due else "jump")
    if len(actual) > len(wanted):
        deaf = len(case.inputs["due"]) > case.expected["count"]  # it ran on behind its last HLT
        message = f"the guest woke {len(actual)} times where {len(wanted)} are expected"
        return fail(message, "deaf" if deaf else "no-interrupt")
    fired, most = obs.int("fired"), min(case.expected["count"], len(case.inputs["due"]))
    if fired > most:
        return fail(f"the timer fired {fired} times where {most} are expected: the guest's last HLT is deaf", "deaf")
    return OK


# ---- 07.4b, the window ----


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


def behind_sti(nonces: Nonces) -> Case:
    """A guest that is acted: one tick is due while IF is 1 already and the guest not ready, right behind its STI; the
    next one comes while a handler works, and can be delivered at an exit that is no window."""
    start, later = nonces.range("stage", 1, 10**6), nonces.range("later", 100, 900)
    vector = nonces.range("vector", 9, 256)
    acts = [
        {"exit": KVM_EXIT_IO, "flag": 1, "ready": 0}, {"exit": KVM_EXIT_IRQ_WINDOW_OPEN, "flag": 1, "ready": 1},
        {"exit": KVM_EXIT_IO, "flag": 0, "ready": 0, "work": [later]}, {"exit": KVM_EXIT_IO, "flag": 1, "ready": 1},
        {"exit": KVM_EXIT_HLT, "flag": 0, "ready": 0},
    ]  # fmt: skip
    inputs = {"start": start, "due": [start, start + later], "vector": vector, "acts": acts} | guest("worker")
    wanted = [[[], 1], [[], 1], [[vector], 0], [[], 1], [[vector], 0]]
    return Case(inputs, wanted, "a guest right behind its STI: IF is 1, and it is not ready yet")


def entered(case: Case, obs: Observation) -> Finding:
    """At each entry: the vectors that were handed over, and the window that was asked for."""
    seen, acts = obs.list("entered"), [{"flag": 0, "ready": 0}, *case.inputs["acts"]]
    for number, (wanted, act) in enumerate(zip(case.expected, acts, strict=False)):
        actual = seen[number] if number < len(seen) else None
        if actual == wanted:
            continue
        vectors, window = actual if isinstance(actual, list) and len(actual) == 2 else ([], 0)
        where = f"entry {number + 1}, behind an exit with IF = {act['flag']} and ready = {act['ready']}"
        if vectors != wanted[0]:
            text = f"{where}: KVM_INTERRUPT got the vectors {in_words(vectors)} where {in_words(wanted[0])} is expected"
            return fail(text, "not-ready" if not wanted[0] else "vector" if vectors else "each-exit")
        text = f"{where}: request_interrupt_window was {in_words(window)} where {wanted[1]} is expected"
        return fail(text, "window" if wanted[1] else "window-open")
    return OK


def busy(nonces: Nonces) -> list[Case]:
    return [*windows(nonces), at_once(nonces), behind_sti(nonces)]


def welcome(case: Case, obs: Observation) -> Finding:
    if "acts" in case.inputs:
        return entered(case, obs)
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


CHECKS = (
    Check(
        "07.4", "a guest sleeps until its next tick", 1,
        exercise="run_timed", driver="timed_guest", cases=naps, judge=woken, guests=("tick-sleeper",),
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
            Hint("deaf", "The guest's last HLT has interrupts off: nothing can ever wake it. `page.if_flag` tells.",
                 when="last HLT"),
            NO_TICK,
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
            Hint("not-ready", "An interrupt may be queued only while `page.ready_for_interrupt_injection` is set. The "
                 "classic mistake looks at `if_flag`: behind an STI that is 1 one instruction too early."),
            Hint("each-exit", "A tick is due and the guest is ready: deliver it at any exit, not only where the window "
                 "opens."),
            Hint("vector", "The vector is what `timer.fire()` gives, whatever number that is."),
            Hint("window-open", "Far too many exits: `request_interrupt_window` stayed 1 with nothing to deliver. Set "
                 "it at each turn, to 0 as well.", when="more than 6000|request_interrupt_window"),
            NO_TICK,
            Hint("more", "Two ticks were due at once. Deliver one at each turn, for a second KVM_INTERRUPT would "
                 "replace the first; and ask for the window while another is due, also right behind a delivery.",
                 when="IndexError|before KVM_RUN|another tick is due"),
            STRUCT,
            Hint("queued", "KVM refused the interrupt: one is queued already, or the guest can't take it yet. Ask "
                 "`page.ready_for_interrupt_injection` first.", when="KVM_INTERRUPT"),
            SERVED, LOOP,
        ),
    ),
)  # fmt: skip
