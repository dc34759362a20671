"""ACPI's fixed hardware by its registers, as ACPICA touches them."""

from __future__ import annotations

import pytest

from minivmm.bus import Bus
from minivmm.devices import acpi_pm
from minivmm.devices.acpi_pm import AcpiPm

SECOND = 1_000_000_000
STATUS, ENABLE, CONTROL, TIMER = 0x600, 0x602, 0x604, 0x608
TMR, PWRBTN, SCI_EN, SLP_EN = 0x0001, 0x0100, 0x0001, 0x2000
S5 = 5 << 10


class Pc:
    """The device on a bus, a clock to set, and what it told."""

    def __init__(self) -> None:
        self.now = 12345
        self.sci = False
        self.told: list[str] = []
        self.pm = AcpiPm(
            self._sci, lambda: self.now, lambda: self.told.append("off"), lambda: self.told.append("reset")
        )
        self.bus = Bus("port")
        for port in self.pm.ports:
            self.bus.attach(port)

    def _sci(self, level: bool) -> None:
        self.sci = level

    def inw(self, port: int) -> int:
        return self.bus.read(port, 2)

    def outw(self, port: int, value: int) -> None:
        self.bus.write(port, 2, value)


@pytest.fixture
def pc() -> Pc:
    return Pc()


def test_the_constants_that_the_tables_use() -> None:
    names = "PM1A_EVT PM1A_CNT PM_TMR GPE0 RESET_PORT RESET_VALUE SCI_IRQ S5_TYPE".split()  # noqa: SIM905
    assert [getattr(acpi_pm, name) for name in names] == [0x600, 0x604, 0x608, 0x620, 0xCF9, 6, 9, 5]


def test_acpi_is_always_on(pc: Pc) -> None:
    assert pc.inw(CONTROL) == SCI_EN
    pc.outw(CONTROL, 0)
    assert pc.inw(CONTROL) == SCI_EN


def test_the_power_button_raises_the_sci_if_it_is_enabled(pc: Pc) -> None:
    pc.pm.press_power_button()
    assert (pc.inw(STATUS), pc.sci) == (PWRBTN, False)
    pc.outw(ENABLE, PWRBTN)
    assert pc.inw(ENABLE) == PWRBTN  # ACPICA reads back what it enabled
    assert pc.sci
    pc.outw(STATUS, TMR)  # writing a one clears that bit, and no other
    assert pc.sci
    pc.outw(STATUS, PWRBTN)
    assert (pc.inw(STATUS), pc.sci) == (0, False)
    pc.pm.press_power_button()
    assert pc.sci
    pc.outw(ENABLE, 0)
    assert not pc.sci


def test_only_defined_enables_are_kept(pc: Pc) -> None:
    pc.outw(ENABLE, 0xFFFF)
    assert pc.inw(ENABLE) == 0x0721


def test_power_off(pc: Pc) -> None:
    pc.outw(CONTROL, S5 | SCI_EN)
    assert pc.told == []  # first the type, then, in a write of its own, the enable bit (ACPI 16.1.7)
    pc.outw(CONTROL, S5 | SCI_EN | SLP_EN)
    assert pc.told == ["off"]
    assert pc.inw(CONTROL) == S5 | SCI_EN  # SLP_EN is write-only


def test_power_off_by_bytes(pc: Pc) -> None:
    pc.bus.write(CONTROL + 1, 1, (S5 | SLP_EN) >> 8)
    assert pc.told == ["off"]


@pytest.mark.parametrize("kind", [0, 1, 3, 7])
def test_other_sleep_types_do_nothing(pc: Pc, kind: int) -> None:
    pc.outw(CONTROL, kind << 10 | SLP_EN)
    assert pc.told == []


def test_the_timer_counts_3579545_a_second_in_32_bits(pc: Pc) -> None:
    assert pc.bus.read(TIMER, 4) == 0
    pc.now += SECOND
    assert pc.bus.read(TIMER, 4) == 3_579_545
    pc.now += 3599 * SECOND  # exact after an hour too; it has wrapped three times
    assert pc.bus.read(TIMER, 4) == 3600 * 3_579_545 % 2**32
    pc.bus.write(TIMER, 4, 0)  # read-only
    assert pc.bus.read(TIMER, 4) == 3600 * 3_579_545 % 2**32


def test_the_timer_interrupts_when_its_top_bit_changes(pc: Pc) -> None:
    assert pc.pm.next_event() is None
    pc.outw(ENABLE, TMR)
    due = pc.pm.next_event()
    assert due is not None
    pc.now = due - 1
    pc.pm.advance()
    assert (pc.sci, pc.bus.read(TIMER, 4)) == (False, 0x7FFF_FFFF)
    pc.now = due
    pc.pm.advance()
    assert (pc.sci, pc.inw(STATUS), pc.bus.read(TIMER, 4)) == (True, TMR, 0x8000_0000)
    assert pc.pm.next_event() is None  # nothing to raise while it is raised
    pc.outw(STATUS, TMR)
    assert not pc.sci
    second = pc.pm.next_event()
    assert second is not None
    pc.now = second
    pc.pm.advance()
    assert (pc.sci, pc.bus.read(TIMER, 4)) == (True, 0)


def test_a_status_that_came_late_is_there_to_read(pc: Pc) -> None:
    pc.now += 700 * SECOND
    assert pc.inw(STATUS) == TMR  # without any advance
    pc.outw(STATUS, TMR)
    assert pc.inw(STATUS) == 0


def test_general_purpose_events(pc: Pc) -> None:
    pc.pm.raise_gpe(3)
    assert (pc.bus.read(0x620, 1), pc.sci) == (0x08, False)
    pc.bus.write(0x621, 1, 0x08)
    assert pc.sci
    assert pc.inw(0x620) == 0x0808
    pc.bus.write(0x620, 1, 0x08)
    assert (pc.inw(0x620), pc.sci) == (0x0800, False)


def test_reset_by_the_register_that_the_fadt_names(pc: Pc) -> None:
    pc.bus.write(0xCF9, 1, 0x02)
    assert (pc.told, pc.bus.read(0xCF9, 1)) == ([], 0x02)
    pc.bus.write(0xCF9, 1, 0x06)
    assert pc.told == ["reset"]


def test_probing_for_pci_is_no_reset_and_finds_none(pc: Pc) -> None:
    pc.bus.write(0xCF9, 1, 0x02)
    for function in range(8):
        pc.bus.write(0xCF8, 4, 0x8000_0000 | function << 8)  # its second byte is a reset, at 0xCF9
    assert pc.bus.read(0xCF8, 4) == 0xFFFF_FFFF
    pc.bus.write(0xCF8, 4, pc.bus.read(0xCF8, 4))
    pc.bus.write(0xCFB, 1, 0x01)
    assert (pc.told, pc.bus.read(0xCF9, 1)) == ([], 0x02)


def test_callbacks_may_load_the_device_itself() -> None:
    def restart() -> None:
        pm.load(fresh)

    pm = AcpiPm(lambda level: None, lambda: 0, restart, restart)
    fresh = pm.save()
    pm.ports[0].write(2, 2, PWRBTN)
    pm.ports[0].write(4, 2, S5 | SLP_EN)
    assert pm.save() == fresh


def test_state_moves_to_another_machine_and_the_timer_goes_on(pc: Pc) -> None:
    pc.outw(ENABLE, PWRBTN | TMR)
    pc.pm.press_power_button()
    pc.now += 5 * SECOND
    state = pc.pm.save()
    other = Pc()
    other.now = 77
    other.pm.load(state)
    assert other.pm.save() == state
    assert other.sci
    assert other.bus.read(TIMER, 4) == 5 * 3_579_545
