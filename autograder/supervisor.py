"""Hands checks to zygotes, judges what comes back, and never runs a line of the student's."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from autograder.model import Case, Check, CheckResult, Lab
from autograder.nonces import Nonces
from autograder.slicing import Slice
from autograder.verdicts import clean, conclude, read, result
from autograder.zygotes import InfrastructureError, LostError, Zygote

Progress = Callable[[Lab, CheckResult], None]


@dataclass(frozen=True)
class Job:
    """One check on one slice. `place` is where its result belongs in the report."""

    place: tuple[int, int]
    lab: Lab
    check: Check
    part: Slice


class Supervisor:
    """A pool of zygotes. Use as a context manager: zygotes start at once, in parallel with whatever comes next."""

    def __init__(
        self,
        accel: str,
        modules: Sequence[str],
        path: Sequence[str] = (),
        jobs: int = 1,
        seed: int = 0,
        needs: Sequence[str] = (),
    ) -> None:
        self.arguments = (accel, tuple(modules), tuple(path), tuple(needs))
        self.seed = seed
        self._lock = threading.Lock()
        self._stopping = False
        self.zygotes: list[Zygote] = []
        for _ in range(jobs):
            self.zygotes.append(Zygote(*self.arguments))

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        # After Ctrl-C the threads are still at work; they must not replace the zygotes that end here.
        self._stopping = True
        for zygote in self.zygotes:
            zygote.close()

    def wait_until_ready(self) -> tuple[str, str]:
        """The backend that serves, and why. Raises InfrastructureError or UsageError."""
        for zygote in self.zygotes:
            zygote.wait_until_ready()
        return self.zygotes[0].backend, self.zygotes[0].reason

    def run(self, jobs: Sequence[Job], progress: Progress) -> dict[tuple[int, int], CheckResult]:
        """Runs every job; the results by place. `progress` is called after each, from any thread, one at a time."""
        waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in jobs:
            waiting.put(job)
        results: dict[tuple[int, int], CheckResult] = {}
        faults: list[BaseException] = []

        def work(index: int) -> None:
            with suppress(queue.Empty):
                while not faults:
                    job = waiting.get_nowait()
                    try:
                        outcome = self.grade(job, index)
                    except BaseException as error:  # a bug in a stage: stop all, and let it be seen
                        faults.append(error)
                        return
                    with self._lock:
                        results[job.place] = outcome
                        progress(job.lab, outcome)

        threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(len(self.zygotes))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if faults:
            raise faults[0]
        return results

    def grade(self, job: Job, index: int) -> CheckResult:
        """One check, in the zygote number `index`."""
        check, part = job.check, job.part
        if part.verdict != "ok":
            return result(check, part.verdict, part.message)
        cases = check.cases(Nonces(self.seed, job.lab.id, check.id))
        request = request_for(job, cases)
        for _ in range(2):
            try:
                answer = self.zygotes[index].ask(request)
            except LostError:
                # Perhaps the student's doing, perhaps the machine's: a second time in a fresh zygote tells.
                try:
                    self._replace(index)
                except InfrastructureError as error:
                    return result(check, "infra", clean(str(error)))
                continue
            outcome = conclude(check, cases, part, answer.header, answer.frames)
            if claims_no_device(answer.frames) and not self.zygotes[index].device_works():
                return result(check, "infra", "the device stopped answering while checks ran; run the grader again.")
            return outcome
        return result(check, "crash", "your code stopped or killed the process that watches it; the check was ended.")

    def _replace(self, index: int) -> None:
        if self._stopping:
            raise InfrastructureError("the grader was stopped.")
        self.zygotes[index].close()
        fresh = Zygote(*self.arguments)
        self.zygotes[index] = fresh
        fresh.wait_until_ready()


def request_for(job: Job, cases: Sequence[Case]) -> dict[str, Any]:
    """What the sandbox is told: inputs, never what is expected."""
    check = job.check
    return {
        "chunks": job.part.chunks,
        "module": job.lab.driver_module,
        "driver": check.driver,
        "exercise": check.exercise,
        "cases": [case.inputs for case in cases],
        "limits": check.limits.as_dict(),
    }


def claims_no_device(frames: bytes) -> bool:
    """Whether the child says that the device would not open. It may lie, so the zygote is asked too."""
    error = read(frames)[1].get("error")
    return isinstance(error, dict) and error.get("device") is True
