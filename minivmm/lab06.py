"""The board of lab 06: a small PC whose interrupt chips, keyboard and run loop are the student's.

    board = Board(globals(), "irq-nest", nonce=7, count=2)
    board.bell = {0: [5], 1: [12, 1]}          # which lines ring at which step of the guest
    print(board.work(), board.console)

The first argument are the student's functions, by name: `write`, `set_line`, `intr`, `inta`, `work`, `read_keyboard`,
`strike`, and the class `Chip`. They are looked up when they are needed, so a cell may be run again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from minivmm import guests
from minivmm.boot.image import load_image
from minivmm.bus import Bus
from minivmm.devices.window import Window
from minivmm.exits import Exit, Interrupted, PortIn, PortOut
from minivmm.kvm import KVM_CREATE_IRQCHIP, KVM_MP_STATE_HALTED
from minivmm.vm import Vm
from minivmm.watch import Watch

CONSOLE, BELL, DATA, STATUS, DEBUG_EXIT = 0x3F8, 0xE0, 0x60, 0x64, 0xF4
KEYS = {"w": 0x11, "a": 0x1E, "s": 0x1F, "d": 0x20, "\x1b": 0x01}  # scan code set 1, as the controller makes it
SCREEN, COLUMNS, ROWS = 0xB8000, 80, 25
SECONDS = 5.0  # for a guest that makes no exit


class Board:
    """One vCPU, 1 MiB of RAM, and the student's devices at the ports of a PC. `kernel`: with KVM's chips instead.

    `exits` counts them by name. A guest that runs for 5 s without an exit raises TimeoutError.
    """

    def __init__(self, parts: Mapping[str, Any], guest: str, kernel: bool = False, **parameters: int) -> None:
        self.parts = parts
        self.vm = Vm()
        self.vm.prepare_for_vtx()
        self.vm.memory.add(0, 1 << 20)
        if kernel:
            self.vm.ioctl(KVM_CREATE_IRQCHIP)
        self.vcpu = self.vm.create_vcpu()
        self.vm.show_supported_cpuid(self.vcpu)
        self.run = self.vcpu.run_page
        self.kernel = kernel
        self.exits: Counter[str] = Counter()
        self.bell: dict[int, list[int]] = {}
        self.waiting = bytearray()  # the keyboard's scan codes
        self.master, self.slave = parts["Chip"](), parts["Chip"]()
        self._ports = Bus("port")
        self._printed = bytearray()
        self._exit: Exit = Interrupted()
        self._wire_up()
        loaded = guests.load(guest)
        load_image(self.vcpu, self.vm.memory, loaded.patched(**parameters), **loaded.placement)

    def _wire_up(self) -> None:
        for chip, first in () if self.kernel else ((self.master, 0x20), (self.slave, 0xA0)):
            self._add(range(first, first + 2), *_registers(chip, lambda *each: self.parts["write"](*each)))
        self._add(range(CONSOLE, CONSOLE + 1), write=lambda _, __, byte: self._printed.append(byte))
        self._add(range(BELL, BELL + 1), write=lambda _, __, step: self._ring(step))
        for port in (DATA, STATUS):
            self._add(range(port, port + 1), self._key_reader(port))

    def _add(self, claim: range, read: Any = lambda *_: 0xFF, write: Any = lambda *_: None) -> None:
        self._ports.attach(Window(f"port {claim.start:#x}", claim, read, write))

    def _key_reader(self, port: int) -> Callable[[int, int], int]:
        return lambda offset, size: self.parts["read_keyboard"](self.waiting, port, lambda up: self.line(1, up))

    # ---- the world outside ----

    def line(self, number: int, up: Any) -> None:
        """Moves interrupt line 0 to 15."""
        chip = self.master if number < 8 else self.slave
        self.parts["set_line"](chip, number & 7, bool(up))

    def _ring(self, step: int) -> None:
        for number in self.bell.pop(step, ()):
            if self.kernel:
                self.parts["strike"](self.vm.fd, number)
            else:
                self.line(number, True)
                self.line(number, False)

    def type(self, keys: str) -> None:
        """Strikes keys: w, a, s, d, and "\\x1b" for escape."""
        self.waiting += bytes(KEYS[key] for key in keys)
        if not self.kernel:
            self.line(1, True)

    # ---- the run loop's side ----

    def go(self) -> None:
        """Enters the guest until its next exit."""
        with Watch(self.vcpu.kick, SECONDS) as watch:
            self._exit = self.vcpu.run()
            while isinstance(self._exit, Interrupted):
                if watch.expired:
                    raise TimeoutError(f"the guest made no exit for {SECONDS:g} s")
                self._exit = self.vcpu.run()
        self.exits[self._exit.name] += 1

    def serve(self, run: object = None) -> None:
        """Serves the port access of the last exit."""
        exit = self._exit
        if isinstance(exit, PortOut):
            self._ports.write_from(exit.port, exit.size, exit.data)
        elif isinstance(exit, PortIn):
            self._ports.read_into(exit.port, exit.size, exit.buffer)

    def work(self) -> str:
        """Runs the guest in the student's loop, on the student's chips."""
        chips = self.master, self.slave
        intr, inta = (lambda: self.parts["intr"](*chips)), (lambda: self.parts["inta"](*chips))
        return str(self.parts["work"](self.go, self.vcpu.fd, self.run, intr, inta, self.serve))

    def rest(self, seconds: float) -> str:
        """Runs the guest for so long, with KVM's chips in charge: only ports come out."""
        with Watch(self.vcpu.kick, seconds) as watch:
            while not watch.expired:
                self._exit = self.vcpu.run()
                if not isinstance(self._exit, Interrupted):
                    self.exits[self._exit.name] += 1
                    self.serve()
        asleep = self.vcpu.get_mp_state() == KVM_MP_STATE_HALTED
        return "in HLT, inside KVM_RUN" if asleep else "running"

    # ---- to look at ----

    @property
    def console(self) -> str:
        return self._printed.decode("ascii", "backslashreplace")

    def screen(self) -> str:
        """The part of the text screen that has something on it, in a frame."""
        text = bytes(self.vm.memory.read(SCREEN, 2 * COLUMNS * ROWS))[::2].replace(b"\0", b" ").decode("latin-1")
        lines = [text[start : start + COLUMNS] for start in range(0, COLUMNS * ROWS, COLUMNS)]
        used = [number for number, line in enumerate(lines) if line.strip()] or [ROWS // 2]
        lines = lines[used[0] : used[-1] + 1]
        left = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        width = max(len(line.rstrip()) for line in lines) - left
        middle = [f"│ {line[left : left + width].ljust(width)} │" for line in lines]
        return "\n".join([f"┌{'─' * (width + 2)}┐", *middle, f"└{'─' * (width + 2)}┘"])


def _registers(chip: Any, write: Callable[[Any, int, int], object]) -> tuple[Any, Any]:
    """The two ports of a chip: what they read, and how they are written."""

    def read(offset: int, size: int) -> int:
        return int(chip.imr if offset else chip.isr if chip.read_isr else chip.irr)

    return read, lambda offset, size, value: write(chip, offset, value)
