"""The stretch problems of lab 06. They are checked like the others, and worth nothing but the insight."""

from __future__ import annotations

from autograder.differences import in_words
from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.common import suited
from autograder.stages.lab06_bench import bench, chips, console, ended, pick, pulse
from autograder.stages.lab06_chip import chip_case, in_bits
from autograder.stages.lab06_hints import hints
from autograder.stages.lab06_priority import first_line, request
from autograder.stages.models import expected_console

# ---- 06.14 fair_request ----


NONSPECIFIC, SPECIFIC, ROTATING = 0x20, 0x60, 0xA0


def in_turn(nonces: Nonces) -> list[Case]:
    theirs = {"request": "fair_request"}

    def three_lines(label: str) -> list[int]:
        return sorted(pick(nonces, label, 3, range(8)))

    # The place of the third line, seen from behind the second, must be no number of a line that is requested.
    first, second, third = suited(three_lines, "three", lambda it: it[2] - it[1] - 1 not in it)
    three = 1 << first | 1 << second | 1 << third
    greedy, meek = sorted(pick(nonces, "guest's", 2, (0, 1, 3, 4, 5, 6, 7)))
    script = [[0, pulse(greedy, meek)], [1, pulse(meek, greedy)], [2, pulse(*pick(nonces, "many", 5, range(8, 16)))]]
    tops = [(second + 1) % 8, third, first]
    named = f"lines {first}, {second} and {third} requested"
    return [
        *(chip_case(f"{named}, and line {top} on top", [()], request, irr=three, top=top) for top in tops),
        chip_case(f"line {second} requested, and line {third} on top", [()], request, irr=1 << second, top=third),
        chip_case(f"{named}, {second} on top and {third} in service", [()], request, irr=three, top=second,
                  isr=1 << third),
        chip_case(f"lines {first} and {third} requested, {second} on top and in service", [()], request,
                  irr=three & ~(1 << second), top=second, isr=1 << second),
        chip_case(f"{named}, {second} on top and masked", [()], request, irr=three, top=second, imr=1 << second),
        bench("irq-log", chips(nonces, command=ROTATING), script, "a guest that rotates priorities", theirs),
    ]  # fmt: skip


# ---- 06.15 kernel_registers ----


def registers_to_read(nonces: Nonces) -> list[Case]:
    line, mine = nonces.choice("line", (9, 10, 12, 14)), nonces.choice("mine", (4, 5, 6))
    masks = 1 << 7 | 1 << 13
    parameters = chips(nonces, masks) | {"count": 1}
    strikes = [[0, [line]], [0x80 + line, [mine, 7, 15, 13]]]
    bases = parameters["value"] & 0xFF, parameters["value"] >> 8
    wanted = [
        {"irr": 1 << mine | 1 << 7, "imr": masks & 0xFF, "isr": 4, "base": bases[0]},
        {"irr": 1 << 7 | 1 << 5, "imr": masks >> 8, "isr": 1 << line - 8, "base": bases[1]},
    ]
    inputs = {"guest": "irq-nest", "parameters": parameters, "strikes": strikes}
    return [Case(inputs, wanted, f"line {line} in service and others requested")]


def read_back(case: Case, obs: Observation) -> Finding:
    if not obs.list():
        return fail("`kernel_registers` was never asked: the interrupt did not come")
    both = obs.list()[0]
    for number, (name, wanted) in enumerate(zip(("master", "slave"), case.expected, strict=True)):
        held = both[number] if isinstance(both, list) and number < len(both) else None
        if held != list(wanted.values()):
            seen = held if isinstance(held, list) else [held]
            text = ", ".join(in_bits(register, each) for register, each in zip(wanted, seen, strict=False))
            want = ", ".join(in_bits(register, value) for register, value in wanted.items())
            text = f"the {name}'s (irr, imr, isr, base): ({text}) where ({want}) is expected"
            return fail(text, "fields" if len(seen) == 4 else "four")
    return OK


# ---- 06.16 watchdog ----


def exits(nonces: Nonces) -> Case:
    """Exits without a guest: IF at each, and (count, NMIs so far) after it."""
    patience = nonces.range("patience", 3, 7)
    flags = [*[0] * (patience - 1), 1, *[0] * patience, 1, *[0] * patience, 1, 0, 1]
    count, bites, wanted = 0, 0, []
    for flag in flags:
        count = 0 if flag else count + 1
        if count == patience:
            count, bites = 0, bites + 1
        # After an NMI some begin again at 0 and some go on, and both are well: the next exit shows interrupts on.
        wanted.append((None if not flag and not count else count, bites))
    return Case({"flags": flags, "patience": patience}, wanted, f"a patience of {patience} exits, one after the other")


def guarded(nonces: Nonces) -> list[Case]:
    cases = [exits(nonces)]
    for run in range(2):
        ticks = nonces.range(f"ticks{run}", 4, 9)
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "value": ticks, "count": nonces.range(f"count{run}", 2, 5)}
        # The guest's own ticks with interrupts off stay below; one more comes with the switch back on at the latest.
        patience = ticks + nonces.range(f"patience{run}", 4, 20)
        inputs = {"guest": "nmi-watchdog", "parameters": parameters, "patience": patience}
        console = expected_console("nmi-watchdog", parameters)
        cases.append(Case(inputs, {"console": console}, f"a patience of {patience} exits"))
    return cases


def exits_counted(case: Case, obs: Observation) -> Finding:
    """The watchdog exit by exit: the count that it returned, and the NMIs so far."""
    steps = obs.list("steps")
    for number, (flag, (count, sent)) in enumerate(zip(case.inputs["flags"], case.expected, strict=True)):
        seen = steps[number] if number < len(steps) else None
        actual, actually_sent = seen if isinstance(seen, list) and len(seen) == 2 else (None, None)
        when = f"after exit {number + 1} (IF = {flag})"
        if actually_sent != sent:
            text = f"{when} {in_words(actually_sent)} NMIs were sent where {sent} are expected"
            never = actually_sent == sent - 1 and actual == 0  # it begins again, as if it had bitten
            return fail(text, "early" if flag else "never" if never else "when")
        if count is not None and (type(actual) is not int or actual != count):
            text = f"{when} the count is {in_words(actual)} where {count} is expected"
            return fail(text, "early" if flag else "when")
    return OK


def watched(case: Case, obs: Observation) -> Finding:
    if "flags" in case.inputs:
        return exits_counted(case, obs)
    how = obs.str("stop")
    if how in ("endless", "timeout"):
        return fail("the guest hung with interrupts off, and no NMI came", "never")
    if how != "ended":
        return ended(obs)
    return console(case, obs, "early")


CHECKS = (
    Check(
        "06.14", "priorities that go round", 0,
        exercise="fair_request", driver="on_the_bench", cases=in_turn,
        judge=first_line("mask", "turn", "turn"),
        guests=("irq-log",),
        hints=hints(
            Hint("turn", "Line `chip.top` goes first, then the next ones, and 0 comes after 7: look at `(chip.top + n) "
                 "% 8` for n from 0 to 7. What is in service counts in the same order."),
            Hint("none", "The waiting line comes behind the one in service, as seen from `chip.top`: return None."),
            Hint("mask", "This line is masked: a 1 in `chip.imr` holds it back, as in task 06.4."),
            Hint("zero", "Line 0 is a line like any other, on top or not."),
            Hint("number", "The number of a line that is requested, 0 to 7, is asked for: not its place in the round."),
            Hint("touched", "It is a question: it changes nothing."),
        ),
    ),
    Check(
        "06.15", "the registers of KVM's own chip", 0,
        exercise="kernel_registers", driver="registers_in_the_kernel", cases=registers_to_read, judge=read_back,
        guests=("irq-nest",),
        hints=hints(
            Hint("fields", "`struct(\"kvm_irqchip\", chip_id=chip)` asks; `.chip.pic` then has `irr`, `imr`, `isr` and "
                 "`irq_base`. The classic mistake forgets `chip_id`: then both answers are the master's."),
            Hint("four", "Return four numbers: (irr, imr, isr, base).", when="TypeError|AttributeError"),
            Hint("ioctl", "KVM_GET_IRQCHIP goes to the VM's handle.", when="ENOTTY|EFAULT|EINVAL|ENXIO"),
        ),
    ),
    Check(
        "06.16", "a watchdog", 0,
        exercise="watchdog", driver="watched_guest", cases=guarded, judge=watched,
        guests=("nmi-watchdog",),
        hints=hints(
            Hint("never", "After `patience` exits in a row with `run.if_flag` 0, `ioctl(vcpu, KVM_NMI)`. Return the "
                 "count, so that the next call can go on from it."),
            Hint("early", "The guest was well: it had interrupts on in between. The classic mistake counts all exits; "
                 "one with `run.if_flag` 1 starts the count anew."),
            Hint("when", "The NMI comes with the exit that makes the count `patience`, neither before nor after; until "
                 "then the new count is the old one plus one."),
            Hint("count", "Return the new count each time: it is what the next call gets.", when="TypeError"),
            Hint("ioctl", "KVM_NMI goes to the vCPU's handle and takes no structure.", when="ENOTTY|EFAULT|EINVAL"),
        ),
    ),
)  # fmt: skip
