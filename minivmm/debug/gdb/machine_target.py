"""A Machine with one vCPU as gdb's target: each resume is one `Machine.run` on a thread of its own."""

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
        self.cpus = (machine.vcpu,)
        self.memory = machine.memory
        self.abilities = probe(machine.vm.backend)
        self._machine = machine
        self._events: SimpleQueue[StopEvent] = SimpleQueue()
        self._stepped = False  # a step has been over at an I/O exit
        self._stands = threading.Event()
        self._stands.set()

    def resume(self, actions: Mapping[int, Action]) -> None:
        self._stands.clear()
        run = threading.Thread(target=self._run, args=(actions[0],), name="minivmm vCPU 0", daemon=True)
        run.start()

    def stop_all(self) -> None:
        while not self._stands.is_set():
            self._machine.stop()
            self._stands.wait(AGAIN)

    def wait_stop(self) -> StopEvent:
        return self._events.get()

    def _run(self, action: Action) -> None:
        machine, watching = self._machine, self._machine.on_exit
        if action is Action.STEP:
            machine.on_exit = self._stepping(watching)
        try:
            event = self._event(machine.run())
            if event.reason is Reason.ASKED:
                machine.vcpu.finish_io()
                event = StopEvent(0, Reason.DEBUG) if self._stepped else event
        except Exception as error:  # a device that fails must not leave gdb waiting
            event = StopEvent(0, Reason.DIED, code=125, text=f"minivmm itself failed: {error!r}")
        machine.on_exit, self._stepped = watching, False
        self._stands.set()
        self._events.put(event)

    def _stepping(self, watching: Callable[[Exit], object] | None) -> Callable[[Exit], object]:
        """Ends a step at its I/O exit: KVM completes the instruction on the way back in, and where its emulator does
        that, it forgets that it was to be a step and runs the next instruction too. So it doesn't get there."""

        def seen(exit: Exit) -> None:
            if watching is not None:
                watching(exit)
            if isinstance(exit, PortIn | PortOut | MmioRead | MmioWrite):
                self._stepped = True
                self._machine.stop()  # the run loop serves this exit, and then looks up

        return seen

    def _event(self, stop: Stop) -> StopEvent:
        if isinstance(stop.exit, Debug):
            return StopEvent(0, Reason.DEBUG, stop.exit)
        if stop.reason == "asked":
            return StopEvent(0, Reason.ASKED)
        if stop.reason == "died":
            text = stop.explanation.text() if stop.explanation else str(stop)
            return StopEvent(0, Reason.DIED, code=stop.exit_code, text=text)
        return StopEvent(0, Reason.ENDED, code=stop.exit_code)
