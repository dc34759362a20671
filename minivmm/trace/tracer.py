"""The tracer: it stands between a run loop and KVM_RUN, and sees every exit twice, as it comes and once it is served.

    run = tracer.wrap(vcpu) if tracer else vcpu.run          # so it costs nothing when it is off

From the return of KVM_RUN to the next call is the service of the exit; inside KVM_RUN is the guest's time. What the
tracer does itself lies between two readings of the clock that count for neither.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, Self, TextIO

from minivmm.bus import Bus
from minivmm.exits import Exit, Interrupted
from minivmm.trace.filter import Served, TraceFilter
from minivmm.trace.kinds import device_finder, facts, kind_of
from minivmm.trace.statistics import Statistics


class Runnable(Protocol):
    """What the tracer needs of a vCPU."""

    index: int

    def run(self) -> Exit: ...


class Tracer:
    """Traces the exits of any number of vCPUs to `file` (None: statistics only), those that `wanted` lets through.

    A line is a JSON object: `seconds` since the tracer was made, the kernel's name of the `exit` and a `text` for a
    person; then `cpu`, `kind`, `device`, the numbers of the exit, `guest_us` and `service_us`. The last line is
    {"summary": …}: all exits, whatever the filter. `clock` gives nanoseconds. Without `kicks`, our own signals
    to a vCPU, which come when the host likes, leave no mark: the guest's time goes on through them.

    A file that can't be written ends the writing, never the machine: `problem` then says why.
    """

    def __init__(
        self,
        file: TextIO | None = None,
        wanted: TraceFilter | None = None,
        *,
        ports: Bus | None = None,
        mmio: Bus | None = None,
        clock: Callable[[], int] = time.perf_counter_ns,
        kicks: bool = True,
    ) -> None:
        self.problem = ""
        self.clock = clock
        self.kicks = kicks
        self.start = clock()
        self._file = file
        self._wanted = wanted or TraceFilter()
        self._device = device_finder(ports, mmio)
        self._lines: list[_Line] = []
        self._lock = threading.Lock()
        self._written = 0

    def wrap(self, vcpu: Runnable) -> Callable[[], Exit]:
        """`vcpu.run`, traced. The result must be called by one thread at a time, as KVM_RUN must."""
        line = _Line(self, vcpu)
        self._lines.append(line)
        return line.run

    def statistics(self) -> Statistics:
        """All exits so far that have been served, from any thread."""
        return Statistics.merged(line.statistics for line in self._lines)

    def close(self) -> None:
        """Notes the exits that ended the run, and writes the summary. The vCPUs must have stopped. Once is enough."""
        for line in self._lines:
            line.finish(None)
        summary = self.statistics().as_json()
        summary = {"seconds": (self.clock() - self.start) / 1e9, "written": self._written, **summary}
        self._write({"summary": summary})
        self._guarded(lambda file: file.flush())
        self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def writes(self) -> bool:
        """Whether there is a file, and it can be written."""
        return self._file is not None

    def _served(self, served: Served, left: int, guest: int) -> None:
        """Writes the line of an exit that KVM_RUN returned at `left`."""
        if not self._wanted(served):
            return
        exit = served.exit
        line = {
            "seconds": round((left - self.start) / 1e9, 6),
            "exit": exit.name,
            "text": str(exit),
            "cpu": served.cpu,
            "kind": kind_of(exit),
            "device": served.device,
            **facts(exit),
            "guest_us": guest / 1000,
            "service_us": None if served.service is None else served.service / 1000,
        }
        self._write(line)

    def _write(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, ensure_ascii=False) + "\n"
        with self._lock:
            self._guarded(lambda file: file.write(text))
            self._written += 1

    def _guarded(self, use: Callable[[TextIO], object]) -> None:
        if self._file is None:
            return
        try:
            use(self._file)
        except (OSError, ValueError) as error:  # a full disk; a closed file
            self.problem = f"The trace is incomplete: {getattr(error, 'strerror', None) or error}."
            self._file = None


class _Line:
    """The exits of one vCPU. Its own statistics, so that vCPUs don't wait for each other to count."""

    def __init__(self, tracer: Tracer, vcpu: Runnable) -> None:
        self.statistics = Statistics()
        self._tracer = tracer
        self._cpu = vcpu.index
        self._run = vcpu.run
        self._clock = tracer.clock
        self._kicks = tracer.kicks
        self._exit: Exit | None = None  # the one in service
        self._left = self._guest = 0
        self._before = 0  # ns of the guest's before a kick that leaves no mark

    def run(self) -> Exit:
        """One KVM_RUN, and before it the notes on the exit that has just been served."""
        self.finish(self._clock() - self._left)
        entered = self._clock()
        exit = self._run()
        self._left = self._clock()
        guest = self._before + self._left - entered
        if isinstance(exit, Interrupted) and not self._kicks:
            self._before = guest
            return exit
        self._exit, self._guest, self._before = exit, guest, 0
        return exit

    def finish(self, service: int | None) -> None:
        """The exit in service is done, after `service` ns; None: the run has ended with it."""
        exit, self._exit = self._exit, None
        if exit is None:
            return
        device = self._tracer._device(exit)
        self.statistics.add(kind_of(exit), device, self._guest, service)
        if self._tracer.writes:
            self._tracer._served(Served(exit, self._cpu, device, service), self._left, self._guest)
