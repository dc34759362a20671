"""The test bench of lab 06: a small PC with two 8259s, whose interrupt lines follow a script. Sandbox side.

A guest writes the number of its step to port 0xE0; the script says what happens at that step. So every interrupt comes
at a place that the guest knows, whatever the speed of the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from autograder.drivers.base import recording
from autograder.drivers.lab06_parts import Chip, Parts
from autograder.drivers.recorder import Recorder
from minivmm import guests
from minivmm.boot.image import load_image
from minivmm.bus import Bus
from minivmm.devices.window import Window
from minivmm.exits import Exit, Halted, Interrupted, InterruptWindow, PortIn, PortOut
from minivmm.kvm import KVM_CREATE_IRQCHIP, KvmError
from minivmm.vm import Vm
from minivmm.watch import Watch

Observed = dict[str, Any]

SECONDS = 1.5  # of a guest without an exit; they need a few milliseconds, but the machine may be busy
CONSOLE, EXITS = 4096, 200  # bytes and lines that go back
MOST = 6000  # exits of one guest
CONSOLE_PORT, BENCH, DEVICES, STRAY, DEBUG_EXIT = 0x3F8, 0xE0, 0xE1, 0xE3, 0xF4
STRAYS = 0x7000  # where the handlers of vectors go that the guest knows nothing of


class Pc:
    """One vCPU in real mode, 1 MiB of RAM, a bus of ports, a console. `kernel`: with KVM's own interrupt chips.

    Every vector leads to a handler that says which it was, so that a wrong one is no riddle.
    """

    def __init__(self, rec: Recorder, kernel: bool = False) -> None:
        self.vm = Vm(rec)
        self.vm.prepare_for_vtx()
        self.vm.memory.add(0, 1 << 20)
        if kernel:
            self.vm.ioctl(KVM_CREATE_IRQCHIP)
        self.vcpu = self.vm.create_vcpu()
        self.vm.show_supported_cpuid(self.vcpu)
        self.page = self.vcpu.run_page
        self.ports = Bus("port")
        self.console = bytearray()
        self.seen: list[str] = []
        self.end: Observed | None = None
        self.windows = 0
        self.last: Exit = Interrupted()
        self.add("console", range(CONSOLE_PORT, CONSOLE_PORT + 1), write=self._print)
        self.add("stray", range(STRAY, STRAY + 1), write=lambda _, __, vector: self.stop("stray", vector=vector))
        self.add("exit", range(DEBUG_EXIT, DEBUG_EXIT + 1), write=lambda *_: self.stop("ended"))

    def add(self, name: str, claim: range, read: Any = lambda *_: 0xFF, write: Any = lambda *_: None) -> None:
        self.ports.attach(Window(name, claim, read, write))

    def load(self, name: str, parameters: dict[str, int]) -> None:
        guest = guests.load(name)
        load_image(self.vcpu, self.vm.memory, guest.patched(**parameters), **guest.placement)
        for vector in range(256):
            place = STRAYS + 8 * vector
            self.vm.memory.write(place, bytes((0xB0, vector, 0xE6, STRAY, 0xFA, 0xF4)))  # mov al; out; cli; hlt
            self.vm.memory.write(4 * vector, place.to_bytes(4, "little"))

    def stop(self, how: str, **more: Any) -> None:
        self.end = self.end or {"stop": how, **more}

    def wakes(self) -> bool:
        """Whether a HLT with interrupts on has something to wake it."""
        return False

    def step(self, exit: Exit) -> None:
        """Serves one exit."""
        if not (isinstance(exit, PortOut) and exit.port == CONSOLE_PORT) and not isinstance(exit, Interrupted):
            self.seen.append(str(exit))
            del self.seen[:-EXITS]
        match exit:
            case PortOut():
                self.ports.write_from(exit.port, exit.size, exit.data)
            case PortIn():
                self.ports.read_into(exit.port, exit.size, exit.buffer)
            case InterruptWindow():
                self.windows += 1
            case Halted():
                if not self.page.if_flag:
                    self.stop("halted")
                elif not self.wakes():
                    self.stop("asleep")
            case Interrupted():
                pass
            case _:
                self.stop("died", why=str(exit))

    def run(self, before: Callable[[], object] = lambda: None) -> Observed:
        """Runs the guest to its end; `before` is called before each entry. What was seen comes back."""
        with Watch(self.vcpu.kick, SECONDS) as watch:
            for _ in range(MOST):
                before()
                if self.end:
                    break
                self.step(self.enter(watch))
            else:
                self.stop("endless")
        return self.report()

    def enter(self, watch: Watch) -> Exit:
        """The guest's next exit. A kick is the host's affair: nobody is offered anything on its account."""
        while isinstance(exit := self.vcpu.run(), Interrupted):
            if watch.expired:
                self.stop("timeout")
                break
        return exit

    def report(self) -> Observed:
        end = self.end or {"stop": "asleep"}
        return {"console": bytes(self.console[:CONSOLE]), "exits": self.seen, "windows": self.windows, **end}

    def _print(self, offset: int, size: int, value: int) -> None:
        self.console.append(value & 0xFF)


class Bench(Pc):
    """The PC with two 8259s in userspace, made of `parts`, and a script: a list of [step, actions]. An action is
    ["line", number, level], ["want", devices] or ["glitch", number], a line that goes up and down at once."""

    def __init__(self, rec: Recorder, parts: Parts, script: list[Any]) -> None:
        super().__init__(rec)
        self.parts = parts
        self.script = [list(each) for each in script]
        self.master, self.slave = Chip(cascade=4), Chip()
        for number in (action[1] for _, actions in script for action in actions if action[0] == "glitch"):
            self.chip(number).elcr |= 1 << (number & 7)  # an edge would stay, whatever becomes of the line
        self.sampled = False  # the processor has seen INTR, and will ask for the vector whatever becomes of it
        self.wants = 0
        self.shared = 0
        for chip, port in ((self.master, 0x20), (self.slave, 0xA0)):
            self.add(f"8259 at {port:#x}", range(port, port + 2), *self._on_bus(chip))
        self.add("ELCR", range(0x4D0, 0x4D2), write=self._triggers)
        self.add("bench", range(BENCH, BENCH + 1), write=lambda _, __, step: self.act(step))
        self.add("devices", range(DEVICES, DEVICES + 1), lambda *_: self.wants, self._serve)

    def _on_bus(self, chip: Chip) -> tuple[Any, Any]:
        return (
            lambda offset, size: chip.read(offset),
            lambda offset, size, value: self.parts.write(chip, offset, value),
        )

    def _triggers(self, offset: int, size: int, value: int) -> None:
        (self.master, self.slave)[offset].elcr = value

    # ---- what the world does ----

    def chip(self, number: int) -> Chip:
        return (self.master, self.slave)[number >> 3]

    def line(self, number: int, level: Any) -> None:
        self.parts.set_line(self.chip(number), number & 7, bool(level))

    def act(self, step: int) -> None:
        """Does what the script has for this step, once."""
        for entry in self.script:
            if entry[0] == step:
                self.script.remove(entry)
                for kind, *what in entry[1]:
                    self._do(kind, what)
                return

    def _do(self, kind: str, what: list[int]) -> None:
        if kind == "line":
            self.line(*what)
        elif kind == "glitch":
            self.line(what[0], True)
            self.sampled |= bool(self.intr())
            self.line(what[0], False)
        elif kind == "want":
            before, self.wants = self.wants, self.wants | what[1]
            self.shared = what[0]
            if not before:
                self.line(self.shared, True)

    def _serve(self, offset: int, size: int, devices: int) -> None:
        before, self.wants = self.wants, self.wants & ~devices
        if before and not self.wants:
            self.line(self.shared, False)

    # ---- what the processor does ----

    def wakes(self) -> bool:
        return bool(self.sampled or self.intr())

    def intr(self) -> Any:
        return self.parts.intr(self.master, self.slave)

    def inta(self) -> Any:
        self.sampled = False
        return self.parts.inta(self.master, self.slave)

    @property
    def idle_window(self) -> bool:
        """Whether KVM is asked for the window, and there is nothing that could go through it."""
        return bool(self.page.request_interrupt_window) and not self.wakes()

    def offer(self, *_: object) -> None:
        """Hands over an interrupt where the guest takes one, else asks to be told when it will."""
        due = self.intr() or self.sampled
        if due and self.page.ready_for_interrupt_injection:
            vector = self.inta()
            if type(vector) is not int or not 0 <= vector <= 255:
                return self.stop("odd", vector=vector)
            self.vcpu.interrupt(vector)
            due = self.intr()
        self.page.request_interrupt_window = bool(due)
        return None


@contextmanager
def a_bench(parts: Parts, inputs: Observed) -> Iterator[Bench]:
    """A bench with the guest loaded; what the student leaves open is closed behind it."""
    with recording() as rec:
        bench = Bench(rec, parts, inputs["script"])
        bench.load(inputs["guest"], inputs["parameters"])
        yield bench


def run(parts: Parts, inputs: Observed) -> Observed:
    """Runs the guest among these parts, to its end."""
    with a_bench(parts, inputs) as bench:
        try:
            return bench.run(bench.offer)
        except KvmError as error:
            return {**bench.report(), "stop": "died", "why": str(error)}
