"""A Machine as gdb's target: each resume is one `Machine.run`, of all vCPUs or of some, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import TYPE_CHECKING

from minivmm.debug.gdb.abilities import probe
from minivmm.debug.gdb.model import Action, Reason, StopEvent
from minivmm.exits import Debug, Exit, MmioRead, MmioWrite, PortIn, PortOut

if TYPE_CHECKING:
    from minivmm.machine import Machine, Stop

AGAIN = 0.05  # seconds: a stop that came before the run had begun is asked for again


class MachineTarget:
    """`Debuggable` for a Machine. Nobody else may run it meanwhile."""

    def __init__(self, machine: Machine) -> None:
        self.cpus = tuple(machine.vcpus)
        self.memory = machine.memory
        self.abilities = probe(machine.vm.backend)
        self._machine = machine
        self._events: SimpleQueue[StopEvent] = SimpleQueue()
        self._untold: list[Stop] = []  # breakpoints that several vCPUs came to at once: gdb hears of one at a time
        self._stepped: int | None = None  # the vCPU whose step was over at an I/O exit
        self._stands = threading.Event()
        self._stands.set()

    def resume(self, actions: Mapping[int, Action]) -> None:
        self._stands.clear()
        threading.Thread(target=self._run, args=(dict(actions),), name="minivmm gdb's run", daemon=True).start()

    def stop_all(self) -> None:
        while not self._stands.is_set():
            self._machine.stop()
            self._stands.wait(AGAIN)

    def wait_stop(self) -> StopEvent:
        return self._events.get()

    def _run(self, actions: dict[int, Action]) -> None:
        try:
            event = self._told(actions) or self._event(self._let_go(actions))
        except Exception as error:  # a device that fails must not leave gdb waiting
            event = StopEvent(0, Reason.DIED, code=125, text=f"minivmm itself failed: {error!r}")
        self._stands.set()
        self._events.put(event)

    def _told(self, actions: dict[int, Action]) -> StopEvent | None:
        """A breakpoint from the last run that gdb has not heard of. What it did to that vCPU meanwhile ends it."""
        for stop in self._untold:
            if stop.cpu in actions:
                self._untold.remove(stop)
                return self._event(stop)
        return None

    def _let_go(self, actions: dict[int, Action]) -> Stop:
        machine, watching = self._machine, self._machine.on_exit
        stepping = [cpu for cpu, action in actions.items() if action is Action.STEP]
        self._stepped = None
        if stepping:
            machine.on_exit = self._stepping(stepping, watching)
        try:
            stop = machine.run(cpus=actions)
        finally:
            machine.on_exit = watching
        self._untold += machine.crew.stops[1:]
        if stop.reason in ("asked", "debug"):
            machine.settle()
        return stop

    def _stepping(self, cpus: list[int], watching: Callable[[Exit], object] | None) -> Callable[[Exit], object]:
        """Ends a step at its I/O exit: KVM completes the instruction on the way back in, and where its emulator does
        that, it forgets that it was to be a step and runs the next instruction too. So it doesn't get there."""

        def seen(exit: Exit) -> None:
            if watching is not None:
                watching(exit)
            here = self._machine.here.index
            if here in cpus and isinstance(exit, PortIn | PortOut | MmioRead | MmioWrite):
                self._stepped = here
                self._machine.stop()  # the run loop serves this exit, and then looks up

        return seen

    def _event(self, stop: Stop) -> StopEvent:
        if isinstance(stop.exit, Debug):
            return StopEvent(stop.cpu, Reason.DEBUG, stop.exit)
        if stop.reason == "asked":
            return StopEvent(0, Reason.ASKED) if self._stepped is None else StopEvent(self._stepped, Reason.DEBUG)
        if stop.reason == "died":
            text = stop.explanation.text() if stop.explanation else str(stop)
            return StopEvent(stop.cpu, Reason.DIED, code=stop.exit_code, text=text)
        return StopEvent(stop.cpu, Reason.ENDED, code=stop.exit_code)
