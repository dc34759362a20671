"""The fixed hardware of ACPI: power button, power off and the PM timer, with the chipset's reset register beside it.

There is no legacy mode to switch from: SCI_EN always reads 1, and the FADT says so with SMI_CMD = 0.

Source: ACPI 6.5, 4.8.3 "Fixed Hardware Registers"; Intel ICH9 datasheet, "RST_CNT: Reset Control Register".
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from minivmm.devices.bytewise import write_bytes
from minivmm.devices.window import Window

# What the FADT and the DSDT have to say: ports, lengths in bytes, the type of S5 for \_S5, the pin of the SCI.
PM1A_EVT, PM1A_EVT_LEN = 0x600, 4
PM1A_CNT, PM1A_CNT_LEN = 0x604, 2
PM_TMR, PM_TMR_LEN = 0x608, 4  # 32 bits count: TMR_VAL_EXT
GPE0, GPE0_LEN = 0x620, 2
RESET_PORT, RESET_VALUE = 0xCF9, 6
SCI_IRQ = 9
S5_TYPE = 5

PM_TIMER_HZ = 3_579_545
TMR_STS, PWRBTN_STS = 0x0001, 0x0100  # an event's enable bit is at the same place in the next register
ENABLES = 0x0721  # timer, global lock, power button, sleep button, RTC
SCI_EN, SLP_EN = 0x0001, 0x2000
CNT_KEPT = 0x1C02  # SLP_TYP and BM_RLD; the others read 0
PCI_ADDRESS = range(0xCF8, 0xCFC)
SYS_RST, RST_CPU, FULL_RST = 0x02, 0x04, 0x08


class AcpiPm:
    """Its `ports` are three claims. `set_line` is the SCI (active high here; the MADT says so), `now` a clock in ns.

    `on_power_off` and `on_reset` are called, without the lock, when the guest asks for it. Any thread may press the
    power button. The owner calls `advance` at `next_event`, for the timer's interrupt.
    """

    def __init__(
        self,
        set_line: Callable[[bool], object],
        now: Callable[[], int],
        on_power_off: Callable[[], object],
        on_reset: Callable[[], object],
    ) -> None:
        self.ports = [
            Window("ACPI PM", range(PM1A_EVT, PM_TMR + PM_TMR_LEN), self._read, self._write, self.save, self.load),
            Window("ACPI GPE0", range(GPE0, GPE0 + GPE0_LEN), self._read_gpe, self._write_gpe),
            # All four bytes, for the PCI address register is here too: of a doubleword written to it, the second byte
            # must not reach the reset register. As on a chipset, only a byte access to 0xCF9 does.
            Window("reset register", PCI_ADDRESS, self._read_reset, self._write_reset),
        ]
        self._set_line = set_line
        self._now = now
        self._on_power_off = on_power_off
        self._on_reset = on_reset
        self._lock = Lock()
        self._started = now()
        self._toggles = 0  # of the timer's top bit, that TMR_STS has heard of
        self._status = self._enable = self._control = 0
        self._gpe_status = self._gpe_enable = 0
        self._reset = 0

    def press_power_button(self) -> None:
        """Asks the guest to shut down. It hears of it if its ACPI driver has enabled the event."""
        with self._lock:
            self._status |= PWRBTN_STS
            self._update()

    def raise_gpe(self, number: int) -> None:
        """Signals general-purpose event 0 to 7: what it means is for the DSDT's method to say."""
        with self._lock:
            self._gpe_status |= 1 << number & 0xFF
            self._update()

    # ---- the timer ----

    def next_event(self) -> int | None:
        """When, in ns of `now`, `advance` has an interrupt to raise; None while nothing is to come."""
        with self._lock:
            if self._status & TMR_STS or not self._enable & TMR_STS:
                return None
            ticks = (self._toggles + 1) << 31
            return self._started - (-ticks * 1_000_000_000 // PM_TIMER_HZ)  # rounded up

    def advance(self) -> None:
        """Lets the timer's interrupt happen, if it is due: its top bit has changed (4.8.3.3)."""
        with self._lock:
            self._advance()
            self._update()

    def _advance(self) -> None:
        toggles = self._ticks() >> 31
        if toggles > self._toggles:
            self._status |= TMR_STS
            self._toggles = toggles

    def _ticks(self) -> int:
        return (self._now() - self._started) * PM_TIMER_HZ // 1_000_000_000

    # ---- PM1 events, PM1 control, timer: 12 bytes ----

    def _read(self, offset: int, size: int) -> int:
        with self._lock:
            self._advance()
            image = self._status | self._enable << 16 | (self._control | SCI_EN) << 32
            image |= (self._ticks() & 0xFFFF_FFFF) << 64
            return image >> 8 * offset & (1 << 8 * size) - 1

    def _write(self, offset: int, size: int, value: int) -> None:
        with self._lock:
            self._advance()
            write_bytes(self._write_byte, offset, size, value)
            asleep = self._control & SLP_EN
            self._control &= ~SLP_EN
            self._update()
        # Only S5 is in the DSDT; whoever writes another type anyway stays awake.
        if asleep and self._control >> 10 & 7 == S5_TYPE:
            self._on_power_off()

    def _write_byte(self, register: int, value: int) -> None:
        bits, lane = value << 8 * (register & 1), 0xFF << 8 * (register & 1)
        match register >> 1:
            case 0:
                self._status &= ~bits  # writing a one clears it
            case 1:
                self._enable = (self._enable & ~lane | bits) & ENABLES
            case 2:
                self._control = (self._control & ~lane | bits) & (CNT_KEPT | SLP_EN)

    # ---- general-purpose events: a byte of status, a byte of enables ----

    def _read_gpe(self, offset: int, size: int) -> int:
        return (self._gpe_status | self._gpe_enable << 8) >> 8 * offset & (1 << 8 * size) - 1

    def _write_gpe(self, offset: int, size: int, value: int) -> None:
        with self._lock:
            write_bytes(self._write_gpe_byte, offset, size, value)
            self._update()

    def _write_gpe_byte(self, register: int, value: int) -> None:
        if register == 0:
            self._gpe_status &= ~value
        else:
            self._gpe_enable = value

    def _update(self) -> None:
        self._set_line(bool(self._status & self._enable or self._gpe_status & self._gpe_enable))

    # ---- reset ----

    def _read_reset(self, offset: int, size: int) -> int:
        if (offset, size) == (RESET_PORT - PCI_ADDRESS.start, 1):
            return self._reset
        return (1 << 8 * size) - 1  # there is no PCI

    def _write_reset(self, offset: int, size: int, value: int) -> None:
        if (offset, size) == (RESET_PORT - PCI_ADDRESS.start, 1):
            self._reset = value & (SYS_RST | FULL_RST)
            if value & RST_CPU:
                self._on_reset()

    # ---- state ----

    _PLAIN = ("toggles", "status", "enable", "control", "gpe_status", "gpe_enable", "reset")

    def save(self) -> dict[str, Any]:
        with self._lock:
            age = self._now() - self._started
            return {"age": age} | {name: getattr(self, f"_{name}") for name in self._PLAIN}

    def load(self, state: dict[str, Any]) -> None:
        """Takes on a saved state. The timer goes on from where it stood."""
        with self._lock:
            self._started = self._now() - state["age"]
            for name in self._PLAIN:
                setattr(self, f"_{name}", state[name])
            self._update()
