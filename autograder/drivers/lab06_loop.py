"""The student's run loop: around a guest that is driven by keys, among exits that are acted, and with all of the
student's other parts. Sandbox side: no answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autograder.drivers.base import Student, attempt, recording
from autograder.drivers.lab06_bench import MOST, SECONDS, Observed, Pc, a_bench
from autograder.drivers.lab06_keys import Desk, ReadKey, read_key
from autograder.drivers.lab06_parts import Parts, alone
from minivmm.exits import PortIn, PortOut
from minivmm.kvm import KvmError
from minivmm.watch import Watch

ALL = ("set_line", "request", "acknowledge", "write", "intr", "inta")
MOST_TOLD = 64


class EndlessError(Exception):
    """The student's loop enters the guest again and again, or the guest does not come out of it."""


def typed_guest(student: Student, inputs: Observed) -> Observed:
    """The student's run loop, called once for each burst of keys; what it offers is ours. Or, where `acts` are given,
    the loop alone."""
    if "acts" in inputs:
        return acted_loop(student.target, inputs["acts"])
    return typed(student.target, read_key, None, inputs)


def its_page(given: Any, page: Any) -> None:
    """Raises TypeError where something else than the page was given for it."""
    if given is not page:
        raise TypeError("the run loop must hand on its page, `run`, as it is")


def only_with(fd: int, page: Any, offer: Callable[[], object]) -> Callable[..., None]:
    """`offer` with the lab's signature: TypeError for other arguments, which a student's own `offer` could not use."""

    def checked(vcpu: Any, run: Any, intr: Any, inta: Any) -> None:
        its_page(run, page)
        if vcpu != fd or not callable(intr) or not callable(inta):
            raise TypeError("offer(vcpu, run, intr, inta) takes the handle, the page and two functions")
        offer()

    return checked


def acted_loop(work: Callable[..., Any], acts: list[list[Any]]) -> Observed:
    """The loop among exits that are acted: [reason, IF, whether an interrupt waits] each. `told` are its calls."""
    with recording() as rec:
        pc = Pc(rec)
        told: list[str] = []
        left = [list(each) for each in acts]
        waits = False

        def go() -> None:
            nonlocal waits
            told.append("go")
            if not left:
                raise EndlessError
            pc.page.exit_reason, pc.page.if_flag, waits = left.pop(0)

        def serve(run: Any) -> None:
            its_page(run, pc.page)
            told.append("serve")

        alone(work, offer=only_with(pc.vcpu.fd, pc.page, lambda: told.append("offer")))
        answer = attempt(work, go, pc.vcpu.fd, pc.page, lambda: bool(waits), lambda: 0x20, serve)
        return {"told": told[:MOST_TOLD], "answer": answer.get("value"), "raised": answer.get("raised", ""),
                "why": answer.get("said", "")}  # fmt: skip


def whole_machine(student: Student, inputs: Observed) -> Observed:
    """The same, and every part is the student's."""
    return typed(student.get("work"), student.target, Parts.of(student, *ALL), inputs)


def typed(work: Callable[..., Any], read: ReadKey, theirs: Parts | None, inputs: Observed) -> Observed:
    """Types burst after burst. `theirs`: the student's parts; where there are none, all parts but `work` are ours."""
    with a_bench(theirs or Parts(), inputs) as bench, Watch(bench.vcpu.kick, SECONDS * 2) as watch:
        desk = Desk(bench, read)
        if theirs is None:
            alone(work, offer=only_with(bench.vcpu.fd, bench.page, bench.offer))
        left, idle, misserved = MOST, 0, 0

        def go() -> None:
            nonlocal left, idle
            left -= 1
            idle += bench.idle_window
            if left < 0:
                raise EndlessError
            bench.last = bench.enter(watch)
            if watch.expired:
                raise EndlessError

        def serve(run: Any) -> None:
            nonlocal misserved
            its_page(run, bench.page)
            misserved += not isinstance(bench.last, (PortIn, PortOut))
            bench.step(bench.last)

        answers: list[Any] = []
        ending: Observed = {}
        try:
            for codes in [b"", *inputs["bursts"]]:
                if codes:
                    desk.type(codes)
                answers.append(work(go, bench.vcpu.fd, bench.page, lambda: bool(bench.intr()), bench.inta, serve))
                if bench.end and bench.end["stop"] != "ended":  # such as a vector that no handler has
                    ending = bench.end
                    break
        except EndlessError:
            ending = bench.end or {"stop": "endless"}
        except KvmError as error:
            ending = {"stop": "died", "why": str(error)}
        except RuntimeError as error:
            ending = {"stop": "raised", "why": str(error)}
        report = bench.report() | {"stop": "returned"} | ending
        return {**report, **desk.look(), "answers": answers, "idle": idle, "misserved": misserved}
