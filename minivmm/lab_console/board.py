"""The board of lab 08: a small PC whose UART, clock, keyboard controller and power switches are the student's parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from minivmm import guests
from minivmm.boot.image import load_image
from minivmm.bus import Bus, Device
from minivmm.devices.pic import Pic
from minivmm.devices.window import Window
from minivmm.exits import Exit, Halted, Interrupted, InterruptWindow, PortIn, PortOut
from minivmm.kvm.run_page import RunPage
from minivmm.kvm.seam import Backend
from minivmm.lab_console.chips import Clock, Pc, Serial
from minivmm.lab_console.parts import Parts
from minivmm.lab_console.wiring import UART, wire
from minivmm.vm import Vm
from minivmm.watch import Watch

BENCH, PRINTER, CLOCK_DATA, UART_IRQ = 0xE0, 0xE9, 0x71, 4
RTS = 2
SECONDS = 2.0  # for a guest that makes no exit
MOST = 20_000  # exits of one call of `go`
START = 1_795_521_599_000_000  # 2026-11-24, 11:59:59, in µs since 1970


class EndlessError(RuntimeError):
    """The guest does not come to an end."""


class Board:
    """A guest in a PC of 1 MiB, ready to run. `parts` are the student's functions by name; the library has the others.

    `script` says what happens at each step of a guest that has steps: ("feed", bytes) on the serial line, ("flawed",
    entries) in the FIFO, ("errors", bits) and ("deltas", bits) in the UART, ("time", µs since 1970). `memory` is
    written at each boot, (GPA, bytes). `now` and `cost` are the clock's.
    """

    def __init__(
        self,
        parts: Mapping[str, Any],
        guest: str,
        *,
        script: Iterable[tuple[int, Sequence[Any]]] = (),
        memory: Iterable[tuple[int, bytes]] = (),
        now: int = START,
        cost: int = 20,
        backend: Backend | None = None,
        **parameters: int,
    ) -> None:
        self.parts = Parts(parts)
        self.script = dict(script)
        self.printed = bytearray()  # by port 0xE9, whatever the UART does
        self.exits: deque[Exit] = deque(maxlen=64)
        self.count = 0  # of all exits
        self.boots = 0
        self._guest, self._parameters = guests.load(guest), parameters
        self._memory, self._backend = list(memory), backend
        self._sent = bytearray()  # by UARTs of former boots
        self._typed: deque[int] = deque()
        self._asked: list[str] = []
        self.pc = Pc(rtc=Clock(now, cost))
        self._vm: Vm | None = None
        self.boot()

    # ---- power ----

    def boot(self, devices: bool = True) -> None:
        """Resets the machine: processor, memory, and the devices. The clock has a battery: it keeps what it has.

        `devices=False` forgets the devices, for whoever wants to see what becomes of it.
        """
        if self._vm is not None:
            self._vm.close()
        vm = self._vm = Vm(self._backend)
        vm.prepare_for_vtx()
        vm.memory.add(0, 1 << 20)
        self.memory = vm.memory
        self.vcpu = vm.create_vcpu()
        vm.show_supported_cpuid(self.vcpu)
        load_image(self.vcpu, vm.memory, self._guest.patched(**self._parameters), **self._guest.placement)
        for gpa, data in self._memory:
            vm.memory.write(gpa, data)
        if devices:
            self._sent += self.pc.uart.sent
            self.pc = Pc(rtc=Clock(self.pc.rtc.now, self.pc.rtc.cost, cmos=self.pc.rtc.cmos))
        self.pic = Pic()
        self.ports = Bus("port")
        self._wire_up()
        self._sleeps = False
        self.boots += 1

    @property
    def page(self) -> RunPage:
        """The kvm_run page of the vCPU as it is since the last boot."""
        return self.vcpu.run_page

    # ---- the ports ----

    def _wire_up(self) -> None:
        devices: list[Device] = [*self.pic.devices, *wire(self.pc, self.parts, self._ask)]
        for device in devices:
            self.ports.attach(device)
        self._add(PRINTER, lambda byte: self.printed.append(byte & 0xFF))
        self._add(BENCH, self._act)

    def _add(self, port: int, write: Callable[[int], object]) -> None:
        claim = range(port, port + 1)
        self.ports.attach(Window(f"port {port:#x}", claim, lambda *_: 0xFF, lambda _, __, value: write(value)))

    def _ask(self, what: str) -> None:
        self._asked.append(what)

    # ---- the world outside ----

    def type(self, text: str) -> None:
        """Types on the terminal at the other end of the line. It heeds flow control: while RTS is 0, and while the UART
        has no room, what was typed waits."""
        self._typed.extend(text.encode())

    def _pump(self) -> None:
        chip = self.pc.uart
        while self._typed and chip.mcr & RTS and len(chip.fifo) < (16 if chip.fcr & 1 else 1):
            before = len(chip.fifo)
            self.parts.receive(chip, self._typed.popleft())
            self._update()
            if len(chip.fifo) == before:
                break  # a `receive` that receives nothing

    def _act(self, step: int) -> None:
        chip = self.pc.uart
        for kind, what in self.script.get(step, ()):
            if kind == "feed":
                for byte in what:
                    self.parts.receive(chip, byte)
            elif kind == "flawed":
                chip.fifo.extend(what)
            elif kind == "errors":
                chip.errors |= what
            elif kind == "deltas":
                chip.deltas |= what
            else:
                self.pc.rtc.now = what
        self._update()

    def _update(self) -> None:
        self.pic.set_line(UART_IRQ, bool(self.parts.irq(self.pc.uart)))

    # ---- running ----

    def go(self) -> str | None:
        """Runs the guest until it asks for "reset" or "off", or until an exit that no device can serve (None): the page
        says which. Raises EndlessError for a guest that goes on for ever."""
        self._asked.clear()
        with Watch(self.vcpu.kick, SECONDS) as watch:
            for _ in range(MOST):
                self._pump()
                if self._sleeps and not self.pic.intr:
                    return None  # KVM_RUN would go on behind the HLT: it is we who must wait for an interrupt
                if self.pic.intr and self.page.ready_for_interrupt_injection:
                    self.vcpu.interrupt(self.pic.acknowledge())
                    self._sleeps = False
                self.page.request_interrupt_window = self.pic.intr
                exit = self._enter(watch)
                self.exits.append(exit)
                self.count += 1
                match exit:
                    case PortOut():
                        self.ports.write_from(exit.port, exit.size, exit.data)
                    case PortIn():
                        self.ports.read_into(exit.port, exit.size, exit.buffer)
                    case InterruptWindow():
                        pass
                    case Halted() if self.page.if_flag:
                        self._sleeps = True
                    case _:
                        return None
                self._after(exit)
                if self._asked:
                    return self._asked[0]
        raise EndlessError(f"the guest is still running after {MOST} exits")

    def _after(self, exit: Exit) -> None:
        """An access to the UART may move its line; one to the clock takes time."""
        if isinstance(exit, (PortOut, PortIn)):
            if UART <= exit.port < UART + 8:
                self._update()
            elif exit.port == CLOCK_DATA:
                self.pc.rtc.now += self.pc.rtc.cost

    def _enter(self, watch: Watch) -> Exit:
        while isinstance(exit := self.vcpu.run(), Interrupted):
            if watch.expired:
                raise EndlessError(f"the guest made no exit for {SECONDS:g} s")
        return exit

    # ---- to look at ----

    @property
    def uart(self) -> Serial:
        """The UART since the last boot."""
        return self.pc.uart

    @property
    def screen(self) -> str:
        """What the terminal shows: all that the guest has sent, in all its boots."""
        return (self._sent + self.pc.uart.sent).decode("ascii", "backslashreplace")

    @property
    def console(self) -> str:
        """What the guest has printed on the test printer, port 0xE9."""
        return self.printed.decode("ascii", "backslashreplace")

    @property
    def why(self) -> object:
        """What killed the guest, explained."""
        from minivmm.debug import explain

        return explain(self.vcpu, self.memory, self.exits[-1], self.exits)
