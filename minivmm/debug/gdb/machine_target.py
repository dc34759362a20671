"""A Machine with one vCPU as gdb's target: each resume is one `Machine.run` on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from queue import SimpleQueue
from typing import TYPE_CHECKING

from minivmm.debug.gdb.abilities import probe
from minivmm.debug.gdb.model import Action, Reason, StopEvent
from minivmm.exits import Debug

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
        self._stands = threading.Event()
        self._stands.set()

    def resume(self, actions: Mapping[int, Action]) -> None:
        self._stands.clear()
        threading.Thread(target=self._run, name="minivmm vCPU 0", daemon=True).start()

    def stop_all(self) -> None:
        while not self._stands.is_set():
            self._machine.stop()
            self._stands.wait(AGAIN)

    def wait_stop(self) -> StopEvent:
        return self._events.get()

    def _run(self) -> None:
        try:
            event = self._event(self._machine.run())
            if event.reason is Reason.ASKED:
                self._machine.vcpu.finish_io()
        except Exception as error:  # a device that fails must not leave gdb waiting
            event = StopEvent(0, Reason.DIED, code=125, text=f"minivmm itself failed: {error!r}")
        self._stands.set()
        self._events.put(event)

    def _event(self, stop: Stop) -> StopEvent:
        if isinstance(stop.exit, Debug):
            return StopEvent(0, Reason.DEBUG, stop.exit)
        if stop.reason == "asked":
            return StopEvent(0, Reason.ASKED)
        if stop.reason == "died":
            text = stop.explanation.text() if stop.explanation else str(stop)
            return StopEvent(0, Reason.DIED, code=stop.exit_code, text=text)
        return StopEvent(0, Reason.ENDED, code=stop.exit_code)
