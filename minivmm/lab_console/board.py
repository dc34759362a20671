"""The board of lab 08: a small PC whose UART, clock, keyboard controller and power switches are the student's parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from minivmm import guests
from minivmm.boot.image import load_image
from minivmm.bus import Bus, Device
from minivmm.devices.window import Window
from minivmm.exits import Exit, Halted, InterruptWindow, PortIn, PortOut
from minivmm.kvm.run_page import RunPage
from minivmm.kvm.seam import Backend
from minivmm.lab_console.chips import Clock, Pc, Serial
from minivmm.lab_console.outside import Bench, Terminal
from minivmm.lab_console.parts import Parts
from minivmm.lab_console.processor import SECONDS, EndlessError, Processor
from minivmm.lab_console.wiring import UART, wire
from minivmm.memory import GuestMemory
from minivmm.vcpu import Vcpu
from minivmm.watch import Watch

BENCH, PRINTER, CLOCK_DATA, UART_IRQ = 0xE0, 0xE9, 0x71, 4
MOST = 20_000  # exits of one call of `go`
START = 1_795_521_599_000_000  # 2026-11-24, 11:59:59, in µs since 1970


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
        self.printed = bytearray()  # by port 0xE9, whatever the UART does
        self.exits: deque[Exit] = deque(maxlen=64)
        self.count = 0  # of all exits
        self.boots = 0
        self._guest, self._parameters = guests.load(guest), parameters
        self._memory, self._backend = list(memory), backend
        self._sent = bytearray()  # by UARTs of former boots
        self._terminal, self._bench = Terminal(), Bench(script)
        self._asked: list[str] = []
        self.pc = Pc(rtc=Clock(now, cost))
        self._processor: Processor
        self.boot()

    # ---- power ----

    def boot(self, devices: bool = True) -> None:
        """Resets the machine: processor, memory, and the devices. The clock has a battery: it keeps what it has.

        `devices=False` forgets the devices, for whoever wants to see what becomes of it.
        """
        if self.boots:
            self._processor.close()
        self._processor = Processor(self._backend)
        load_image(self.vcpu, self.memory, self._guest.patched(**self._parameters), **self._guest.placement)
        for gpa, data in self._memory:
            self.memory.write(gpa, data)
        if devices:
            self._sent += self.pc.uart.sent
            self.pc = Pc(rtc=Clock(self.pc.rtc.now, self.pc.rtc.cost, cmos=self.pc.rtc.cmos))
        self._wire_up()
        self.boots += 1

    # ---- the ports ----

    def _wire_up(self) -> None:
        self.ports = Bus("port")
        devices: list[Device] = [*self._processor.pic.devices, *wire(self.pc, self.parts, self._asked.append)]
        for device in devices:
            self.ports.attach(device)
        self._add(PRINTER, lambda byte: self.printed.append(byte & 0xFF))
        self._add(BENCH, self._act)

    def _add(self, port: int, write: Callable[[int], object]) -> None:
        claim = range(port, port + 1)
        self.ports.attach(Window(f"port {port:#x}", claim, lambda *_: 0xFF, lambda _, __, value: write(value)))

    def _act(self, step: int) -> None:
        self._bench.act(step, self.pc, self.parts)
        self._update()

    def _update(self) -> None:
        self._processor.pic.set_line(UART_IRQ, bool(self.parts.irq(self.pc.uart)))

    # ---- running ----

    def go(self) -> str | None:
        """Runs the guest until it asks for "reset" or "off", or until an exit that no device can serve (None): the page
        says which. Raises EndlessError for a guest that goes on for ever."""
        self._asked.clear()
        with Watch(self.vcpu.kick, SECONDS) as watch:
            for _ in range(MOST):
                self._terminal.send(self.pc.uart, self.parts, self._update)
                exit = self._processor.run(watch)
                if exit is None:
                    return None
                self.exits.append(exit)
                self.count += 1
                if not self._serve(exit):
                    return None
                if self._asked:
                    return self._asked[0]
        raise EndlessError(f"the guest is still running after {MOST} exits")

    def _serve(self, exit: Exit) -> bool:
        """False for an exit that ends the run. An access to the UART may move its line; one to the clock takes time."""
        match exit:
            case PortOut():
                self.ports.write_from(exit.port, exit.size, exit.data)
            case PortIn():
                self.ports.read_into(exit.port, exit.size, exit.buffer)
            case InterruptWindow():
                return True
            case Halted() if self.page.if_flag:
                return True  # it sleeps: the next entry finds out for how long
            case _:
                return False
        if UART <= exit.port < UART + 8:
            self._update()
        elif exit.port == CLOCK_DATA:
            self.pc.rtc.now += self.pc.rtc.cost
        return True

    def type(self, text: str) -> None:
        """Types on the terminal at the other end of the line. What the guest can't receive yet waits there."""
        self._terminal.type(text)

    # ---- to look at ----

    @property
    def vcpu(self) -> Vcpu:
        """The vCPU since the last boot."""
        return self._processor.vcpu

    @property
    def memory(self) -> GuestMemory:
        """The guest's memory since the last boot."""
        return self._processor.memory

    @property
    def page(self) -> RunPage:
        """The kvm_run page of the vCPU as it is since the last boot."""
        return self.vcpu.run_page

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
