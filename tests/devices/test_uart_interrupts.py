"""The interrupts of the 16550A: sources, priorities, what clears each, and the gate that a PC puts behind them.

Source: PC16550D datasheet, 8.6.6 "Interrupt Identification Register" (table II), 8.6.7, 8.7.
"""

from __future__ import annotations

import pytest

from minivmm.devices.uart import Uart

THR = RBR = 0
IER, IIR, FCR, LCR, MCR, LSR, MSR = 1, 2, 2, 3, 4, 5, 6
ERBFI, ETBEI, ELSI, EDSSI = 1, 2, 4, 8
NONE, RLS, RDA, TIMEOUT, THRE, MODEM = 0x01, 0x06, 0x04, 0x0C, 0x02, 0x00
OUT2, LOOP = 0x08, 0x10


@pytest.fixture
def line() -> list[bool]:
    return []


@pytest.fixture
def uart(line: list[bool]) -> Uart:
    uart = Uart(lambda data: None, set_line=line.append)
    uart.write(MCR, 1, OUT2)
    return uart


def test_enabling_etbei_with_an_empty_thr_interrupts_at_once(uart: Uart, line: list[bool]) -> None:
    uart.write(IER, 1, ETBEI)
    assert line == [True]
    assert uart.read(IIR, 1) == THRE
    assert line == [True, False]  # reading IIR, with THRE its source, clears it
    assert uart.read(IIR, 1) == NONE
    uart.write(IER, 1, ETBEI)  # enabled it was: no edge, no interrupt
    assert uart.read(IIR, 1) == NONE
    uart.write(IER, 1, 0)
    uart.write(IER, 1, ETBEI)
    assert uart.read(IIR, 1) == THRE


def test_a_written_thr_empties_and_interrupts(uart: Uart, line: list[bool]) -> None:
    uart.write(IER, 1, ETBEI)
    uart.read(IIR, 1)
    line.clear()
    uart.write(THR, 1, ord("x"))
    assert line == [True]
    assert uart.read(LSR, 1) == 0x60
    assert uart.read(IIR, 1) == THRE  # LSR has not cleared it


def test_the_byte_is_out_before_thre_says_so() -> None:
    events: list[object] = []
    uart = Uart(events.append, set_line=events.append)
    uart.write(MCR, 1, OUT2)
    uart.write(IER, 1, ETBEI)
    uart.read(IIR, 1)
    uart.write(THR, 1, ord("x"))
    assert events == [True, False, b"x", True]


def test_received_data_without_fifos(uart: Uart, line: list[bool]) -> None:
    uart.write(IER, 1, ERBFI)
    uart.feed(b"ab")
    assert (uart.read(IIR, 1), line) == (RDA, [True])
    assert uart.read(RBR, 1) == ord("a")
    assert uart.read(IIR, 1) == RDA  # the next came in at once
    assert uart.read(RBR, 1) == ord("b")
    assert (uart.read(IIR, 1), line) == (NONE, [True, False])


@pytest.mark.parametrize(("bits", "trigger"), [(0x00, 1), (0x40, 4), (0x80, 8), (0xC0, 14)])
def test_trigger_levels_and_the_character_timeout(uart: Uart, bits: int, trigger: int) -> None:
    uart.write(FCR, 1, 0x01 | bits)
    uart.write(IER, 1, ERBFI)
    uart.feed(b"x" * (trigger - 1))
    assert uart.read(IIR, 1) == 0xC0 | (TIMEOUT if trigger > 1 else NONE)
    uart.feed(b"x")
    assert uart.read(IIR, 1) == 0xC0 | RDA
    uart.read(RBR, 1)  # below the trigger again, and nothing more comes
    assert uart.read(IIR, 1) == 0xC0 | (TIMEOUT if trigger > 1 else NONE)
    for _ in range(trigger - 1):
        uart.read(RBR, 1)
    assert uart.read(IIR, 1) == 0xC0 | NONE


def test_priorities(uart: Uart, line: list[bool]) -> None:
    uart.write(FCR, 1, 0x01)
    uart.feed_break()
    uart.write(LCR, 1, 0x80)
    uart.write(LCR, 1, 0x00)
    uart.write(MCR, 1, LOOP | OUT2)  # CTS and DSR fall
    uart.write(MCR, 1, OUT2)
    uart.write(IER, 1, ERBFI | ETBEI | ELSI | EDSSI)
    found = [uart.read(IIR, 1) & 0x0F]
    uart.read(LSR, 1)
    found.append(uart.read(IIR, 1) & 0x0F)
    uart.read(RBR, 1)
    found += [uart.read(IIR, 1) & 0x0F, uart.read(IIR, 1) & 0x0F]
    assert line == [True]  # it never fell in between
    uart.read(MSR, 1)
    found.append(uart.read(IIR, 1) & 0x0F)
    assert found == [RLS, RDA, THRE, MODEM, NONE]
    assert line == [True, False]


def test_iir_clears_thre_only_as_the_source(uart: Uart) -> None:
    uart.feed(b"x")
    uart.write(IER, 1, ERBFI | ETBEI)
    assert [uart.read(IIR, 1), uart.read(IIR, 1)] == [RDA, RDA]
    uart.read(RBR, 1)
    assert [uart.read(IIR, 1), uart.read(IIR, 1)] == [THRE, NONE]


def test_a_source_that_is_not_enabled_is_silent(uart: Uart, line: list[bool]) -> None:
    uart.feed(b"x")
    uart.feed_break()
    uart.write(MCR, 1, LOOP | OUT2)
    uart.write(MCR, 1, OUT2)
    uart.read(LSR, 1)
    assert (uart.read(IIR, 1), line) == (NONE, [])


def test_out2_gates_the_line_but_not_iir(uart: Uart, line: list[bool]) -> None:
    uart.write(MCR, 1, 0)
    uart.write(IER, 1, ETBEI)
    assert line == []
    uart.write(MCR, 1, OUT2)
    assert line == [True]
    uart.write(MCR, 1, OUT2 | LOOP)  # 8.6.7: loopback forces the outputs inactive
    assert line == [True, False]
    assert uart.read(IIR, 1) == THRE


def test_an_overrun_is_a_line_status_interrupt(uart: Uart) -> None:
    uart.write(IER, 1, ELSI)
    uart.write(MCR, 1, LOOP)
    uart.write(THR, 1, 1)
    assert uart.read(IIR, 1) == NONE
    uart.write(THR, 1, 2)
    assert uart.read(IIR, 1) == RLS
    assert uart.read(LSR, 1) & 0x02
    assert uart.read(IIR, 1) == NONE


def test_fifos_off_show_in_iir(uart: Uart) -> None:
    assert uart.read(IIR, 1) == 0x01
    uart.write(FCR, 1, 0x01)
    assert uart.read(IIR, 1) == 0xC1
    uart.write(FCR, 1, 0x00)
    assert uart.read(IIR, 1) == 0x01
