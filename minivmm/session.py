"""One `minivmm run`: a machine made from options, on a terminal, with a monitor, a trace and gdb as asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TextIO

from minivmm.boot.image import load_image
from minivmm.kvm import constants as k
from minivmm.machine import TIMED_OUT, Machine, Stop
from minivmm.machine.controls import MachineControls
from minivmm.run_options import Options
from minivmm.terminal import Terminal
from minivmm.trace import TraceFilter, Tracer
from minivmm.virtio.blockfile import BlockFile

MIB = 1 << 20
WITH_GDB = "pause", "continue", "reset"  # gdb has its own ways to do that


class Session:
    """Runs the machine of `options`; `say` gets lines for the person who runs it. What can't be done is raised with a
    sentence: BadImageError, DiskImageError, TraceFilterError, KvmError, OSError."""

    def __init__(self, options: Options, say: Callable[[str], object]) -> None:
        self._options = options
        self._say = say
        self._wanted = TraceFilter(options.trace_filter)
        self._deadline = None if options.timeout is None else time.monotonic() + options.timeout
        self._controls: MachineControls | None = None
        self._typed = bytearray()  # while there was no machine
        self._lock = threading.Lock()  # a reset replaces the machine while somebody types
        self._stop_gdb: Callable[[], object] | None = None
        self._left = False

    def run(self) -> int:
        """The exit code."""
        options = self._options
        with ExitStack() as stack:
            disks = [stack.enter_context(BlockFile(path, read_only=options.disk_read_only)) for path in options.disks]
            trace = stack.enter_context(options.trace.open("w", encoding="utf-8")) if options.trace else None
            terminal = Terminal(self._feed, leave=self._leave, monitor=self._ask, backlog=self._backlog)
            counting = options.trace_summary or terminal.is_tty
            words: list[str] = []
            stack.callback(lambda: [self._say(each) for each in words if each])  # when the terminal is as it was
            stack.enter_context(terminal)
            while True:
                with self._machine(terminal.write, disks) as machine:
                    if trace or counting:
                        machine.tracer = self._tracer(machine, trace)
                    stop = self._run(machine)
                    words += self._words(machine, stop)
                    pressed = self._controls is not None and self._controls.reset_pressed
                if stop.reason != "reset" or not (options.reboot or pressed):
                    return stop.exit_code
                words.clear()

    # ---- one machine, from power-on to its end ----

    @contextmanager
    def _machine(self, sink: Callable[[bytes], object], disks: Sequence[BlockFile]) -> Iterator[Machine]:
        with self._made(sink, disks) as machine:
            if machine.vm.has_cap(k.KVM_CAP_X86_USER_SPACE_MSR):
                machine.vm.exit_on_unknown_msrs()  # so that they show among the last exits; the guest gets #GP as ever
            self._load(machine)
            with self._lock:
                self._controls = MachineControls(machine)
                machine.terminal.feed(bytes(self._typed))
                self._typed.clear()
            try:
                yield machine
            finally:
                with self._lock:
                    self._controls = None

    def _made(self, sink: Callable[[bytes], object], disks: Sequence[BlockFile]) -> Machine:
        options = self._options
        size = options.memory * MIB
        if not options.needs_pc:
            return Machine(size, options.backend, sink=sink, counted=options.deterministic)
        from minivmm.machine.pc import Pc  # only now: a small guest has no use for so many devices

        return Pc(
            size,
            options.backend,
            sink=sink,
            cpus=options.cpus,
            irqchip=options.irqchip,
            disks=disks,
            hvc=options.console == "virtio",
            counted=options.deterministic,
            on_boot=lambda ns: self._say(f"The guest was up after {ns / 1e9:.3f} s."),
        )

    def _tracer(self, machine: Machine, file: TextIO | None) -> Tracer:
        """On a clock that the guest doesn't have, no two traces would be the same."""
        counted = self._options.deterministic
        clock = machine.vm.now if counted else time.perf_counter_ns
        return Tracer(file, self._wanted, ports=machine.ports, mmio=machine.mmio, clock=clock, kicks=not counted)

    def _load(self, machine: Machine) -> None:
        options = self._options
        load_image(
            machine.vcpu,
            machine.memory,
            options.image.take(),
            mode=options.mode,
            load=options.load,
            initrd=options.initrd.read_bytes() if options.initrd else None,
            command_line=options.command_line,
            platform=machine.platform,
        )

    def _run(self, machine: Machine) -> Stop:
        if self._left:
            return Stop("asked", 0)
        left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        return machine.run(left) if self._options.gdb is None else self._run_with_gdb(machine, self._options.gdb, left)

    def _run_with_gdb(self, machine: Machine, port: int, left: float | None) -> Stop:
        from minivmm.debug.gdb import GdbServer, MachineTarget

        monitor = partial(self._ask, without=WITH_GDB)
        with GdbServer(MachineTarget(machine), port, monitor=monitor, notice=self._say) as server:
            self._stop_gdb = server.stop
            timer = threading.Timer(left or 0, server.stop)
            if left is not None:
                timer.daemon = True
                timer.start()
            try:
                event = server.serve()
            finally:
                timer.cancel()
                self._stop_gdb = None
        if event is None:
            late = self._deadline is not None and time.monotonic() >= self._deadline
            return Stop("timeout", TIMED_OUT) if late else Stop("asked", 0)
        if event.text:
            self._say(event.text)
        return Stop("debug-exit" if event.code else "halted", event.code)

    def _words(self, machine: Machine, stop: Stop) -> list[str]:
        """What the person should be told of how it ended."""
        words = []
        if stop.reason == "timeout":
            from minivmm.debug import where

            places = [where(vcpu, machine.memory) for vcpu in machine.vcpus]
            place = places[0] if len(places) == 1 else "; ".join(f"vCPU {n} {each}" for n, each in enumerate(places))
            words.append(f"The guest was still running after {self._options.timeout:g} s, {place}.")
        if stop.reason == "reset":
            words.append("The guest asked for a reset, so this is the end; with --reboot it would start again.")
        if stop.explanation is not None:
            words.append(stop.explanation.text())
        if machine.tracer is not None:
            machine.tracer.close()
            words.append(machine.tracer.problem)
            if self._options.trace_summary:
                words.append(machine.tracer.statistics().text())
        return words

    # ---- what the terminal's thread asks for ----

    def _feed(self, data: bytes) -> None:
        with self._lock:
            if self._controls is None:
                self._typed += data
            else:
                self._controls.machine.terminal.feed(data)

    def _backlog(self) -> int:
        with self._lock:
            return len(self._typed) if self._controls is None else self._controls.machine.terminal.backlog

    def _leave(self) -> None:
        self._left = True
        if self._stop_gdb is not None:
            self._stop_gdb()
        elif (controls := self._controls) is not None:
            controls.quit()

    def _ask(self, line: str, without: Sequence[str] = ()) -> str:
        from minivmm.monitor import Monitor  # only now: it knows how to disassemble

        controls = self._controls
        return Monitor(controls, without).execute(line) if controls is not None else "The machine is being made."
