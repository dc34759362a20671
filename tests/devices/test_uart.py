"""The 16550 by its registers, as a driver touches them."""

from __future__ import annotations

import pytest

from minivmm.devices.debug_exit import DebugExit
from minivmm.devices.post_code import PostCode
from minivmm.devices.uart import Uart

THR = RBR = 0
IER, IIR, FCR, LCR, MCR, LSR, MSR, SCR = 1, 2, 2, 3, 4, 5, 6, 7


@pytest.fixture
def sent() -> bytearray:
    return bytearray()


@pytest.fixture
def uart(sent: bytearray) -> Uart:
    return Uart(sent.extend)


def test_it_is_ready_to_send_at_reset(uart: Uart) -> None:
    assert uart.read(LSR, 1) == 0x60
    assert uart.read(IIR, 1) & 1


def test_bytes_go_out_and_come_in_in_order(uart: Uart, sent: bytearray) -> None:
    for byte in b"out":
        uart.write(THR, 1, byte)
    uart.feed(b"in")
    assert sent == b"out"
    assert uart.read(LSR, 1) & 1
    assert bytes((uart.read(RBR, 1), uart.read(RBR, 1))) == b"in"
    assert not uart.read(LSR, 1) & 1
    assert uart.read(RBR, 1) == 0


def test_the_divisor_latch_hides_the_data_register(uart: Uart, sent: bytearray) -> None:
    uart.write(LCR, 1, 0x83)
    uart.write(0, 1, 0x01)
    uart.write(1, 1, 0x02)
    assert (uart.read(0, 1), uart.read(1, 1), bytes(sent)) == (1, 2, b"")
    uart.write(LCR, 1, 0x03)
    uart.write(THR, 1, 0x41)
    assert sent == b"A"
    assert uart.read(IER, 1) == 0


def test_probing_registers(uart: Uart) -> None:
    uart.write(SCR, 1, 0xA5)
    assert uart.read(SCR, 1) == 0xA5
    uart.write(IER, 1, 0xFF)
    assert uart.read(IER, 1) == 0x0F
    uart.write(FCR, 1, 0x01)
    assert uart.read(IIR, 1) == 0xC1
    uart.feed(b"old")
    uart.write(FCR, 1, 0x03)
    assert not uart.read(LSR, 1) & 1


def test_loopback_sends_nothing_out(uart: Uart, sent: bytearray) -> None:
    uart.write(MCR, 1, 0x1F)
    uart.write(THR, 1, 0x42)
    assert (bytes(sent), uart.read(RBR, 1)) == (b"", 0x42)
    assert uart.read(MSR, 1) == 0xF0
    uart.write(MCR, 1, 0x12)  # RTS alone comes back as CTS
    assert uart.read(MSR, 1) == 0x10


def test_wide_accesses_touch_neighbouring_registers(uart: Uart) -> None:
    uart.write(IER, 2, 0x0105)
    assert uart.read(IER, 1) == 5
    assert uart.read(LSR, 2) == 0xB060


def test_state_moves_to_another_uart(uart: Uart) -> None:
    uart.feed(b"kept")
    uart.write(SCR, 1, 7)
    other = Uart(lambda data: None)
    other.load(uart.save())
    assert other.save() == uart.save()
    assert (other.read(SCR, 1), other.read(RBR, 1)) == (7, ord("k"))


def test_debug_exit_codes() -> None:
    codes: list[int] = []
    device = DebugExit(codes.append)
    device.write(0, 1, 0x10)
    device.write(0, 4, 0)
    assert codes == [33, 1]
    assert device.read(0, 1) == 0


def test_post_codes_keep_the_last() -> None:
    device = PostCode()
    assert device.read(0, 1) == 0xFF
    for code in range(1000):
        device.write(0, 1, code)
    assert device.read(0, 1) == 999 & 0xFF
    other = PostCode()
    other.load(device.save())
    assert list(other.seen) == list(device.seen) == [code & 0xFF for code in range(744, 1000)]
