"""The 16550A by its registers, as a driver touches them. Numbers in names and comments are the datasheet's sections."""

from __future__ import annotations

import pytest

from minivmm.devices.uart import Uart

THR = RBR = 0
IER, IIR, FCR, LCR, MCR, LSR, MSR, SCR = 1, 2, 2, 3, 4, 5, 6, 7
RTS, OUT1, OUT2, LOOP = 0x02, 0x04, 0x08, 0x10


@pytest.fixture
def sent() -> bytearray:
    return bytearray()


@pytest.fixture
def line() -> list[bool]:
    """Every change of the interrupt line."""
    return []


@pytest.fixture
def uart(sent: bytearray, line: list[bool]) -> Uart:
    return Uart(sent.extend, set_line=line.append)


def read_all(uart: Uart) -> bytes:
    received = bytearray()
    while uart.read(LSR, 1) & 0x01:
        received.append(uart.read(RBR, 1))
    return bytes(received)


def test_registers_at_reset(uart: Uart) -> None:
    # Table "UART Reset Configuration"; MSR shows the terminal that is connected.
    assert [uart.read(register, 1) for register in (IER, IIR, LCR, MCR, LSR, MSR)] == [0, 0x01, 0, 0, 0x60, 0xB0]


def test_bytes_go_out_and_come_in_in_order(uart: Uart, sent: bytearray) -> None:
    for byte in b"out":
        uart.write(THR, 1, byte)
    uart.feed(b"in")
    assert sent == b"out"
    assert read_all(uart) == b"in"
    assert uart.read(RBR, 1) == 0


def test_the_divisor_latch_hides_the_data_registers(uart: Uart, sent: bytearray) -> None:
    uart.feed(b"x")
    uart.write(LCR, 1, 0x83)
    uart.write(0, 1, 0x01)
    uart.write(1, 1, 0x02)
    assert (uart.read(0, 1), uart.read(1, 1), bytes(sent)) == (1, 2, b"")
    uart.write(LCR, 1, 0x03)
    uart.write(THR, 1, 0x41)
    assert sent == b"A"
    assert (uart.read(IER, 1), uart.read(RBR, 1)) == (0, ord("x"))


def test_only_defined_bits_are_kept(uart: Uart) -> None:
    for register, kept in ((IER, 0x0F), (LCR, 0x7F), (MCR, 0x1F), (SCR, 0xFF)):
        uart.write(register, 1, kept if register == LCR else 0xFF)
        assert uart.read(register, 1) == kept


def test_wide_accesses_touch_neighbouring_registers(uart: Uart) -> None:
    uart.write(IER, 2, 0x0105)
    assert uart.read(IER, 1) == 5
    assert uart.read(IIR, 1) & 0xC0 == 0xC0  # the second byte was FCR
    assert uart.read(LSR, 2) == 0xB060


# ---- FIFO ----


def test_the_fifo_holds_16_bytes_and_the_rest_waits_on_the_line(uart: Uart) -> None:
    uart.write(FCR, 1, 0x01)
    uart.feed(bytes(range(40)))
    assert uart.read(LSR, 1) == 0x61
    receiver = uart.save()["receiver"]
    assert (len(receiver["fifo"]), len(receiver["line"])) == (16, 24)
    assert read_all(uart) == bytes(range(40))
    assert uart.read(LSR, 1) == 0x60  # no overrun: the far end waits


@pytest.mark.parametrize("fcr", [0x03, 0x00], ids=["cleared by bit 1", "emptied by turning the FIFOs off"])
def test_a_reset_of_the_fifo_discards_what_was_received(uart: Uart, fcr: int) -> None:
    uart.write(FCR, 1, 0x01)
    uart.feed(b"sixteen bytes in and some more")
    uart.read(LSR, 1)
    uart.write(FCR, 1, fcr)
    assert read_all(uart) == b" and some more"


def test_fifo_bits_need_the_enable_bit(uart: Uart) -> None:
    # 8.6.5: "bit 0 must be a 1 when other FCR bits are written to or they will not be programmed".
    uart.feed(b"x")
    uart.read(LSR, 1)
    uart.write(FCR, 1, 0xC2)
    assert uart.read(IIR, 1) == 0x01
    assert uart.read(RBR, 1) == ord("x")


def test_a_full_fifo_in_loopback_loses_the_new_byte(uart: Uart) -> None:
    uart.write(FCR, 1, 0x01)
    uart.write(MCR, 1, LOOP)
    for byte in range(18):
        uart.write(THR, 1, byte)
    assert uart.read(LSR, 1) == 0x63
    assert uart.read(LSR, 1) == 0x61  # reading LSR clears the error
    assert read_all(uart) == bytes(range(16))


def test_without_fifos_the_new_byte_overwrites_the_old(uart: Uart) -> None:
    uart.write(MCR, 1, LOOP)
    uart.write(THR, 1, 1)
    uart.write(THR, 1, 2)
    assert uart.read(LSR, 1) == 0x63
    assert read_all(uart) == b"\x02"


def test_a_break_is_an_error_of_its_own_byte(uart: Uart) -> None:
    uart.write(FCR, 1, 0x01)
    uart.feed(b"a")
    uart.feed_break()
    uart.feed(b"b")
    assert uart.read(LSR, 1) == 0xE1  # an error somewhere in the FIFO, but not at its top
    assert uart.read(RBR, 1) == ord("a")
    assert uart.read(LSR, 1) == 0xF1  # now the break is at the top
    assert uart.read(LSR, 1) == 0x61  # told once
    assert (uart.read(RBR, 1), uart.read(RBR, 1)) == (0, ord("b"))


# ---- modem ----


def test_loopback_sends_nothing_out_and_hears_nobody(uart: Uart, sent: bytearray) -> None:
    uart.write(MCR, 1, LOOP | RTS)
    uart.feed(b"far end")
    uart.write(THR, 1, 0x42)
    assert (bytes(sent), read_all(uart)) == (b"", b"B")
    uart.write(MCR, 1, RTS)
    assert read_all(uart) == b"far end"


@pytest.mark.parametrize(("mcr", "msr"), [(0x01, 0x20), (0x02, 0x10), (0x04, 0x40), (0x08, 0x80), (0x0F, 0xF0)])
def test_in_loopback_the_outputs_are_the_inputs(uart: Uart, mcr: int, msr: int) -> None:
    uart.write(MCR, 1, LOOP | mcr)  # DTR→DSR, RTS→CTS, OUT1→RI, OUT2→DCD
    assert uart.read(MSR, 1) & 0xF0 == msr


def test_msr_remembers_changes_until_it_is_read(uart: Uart) -> None:
    uart.write(MCR, 1, LOOP)  # the terminal's DCD, DSR and CTS go
    assert uart.read(MSR, 1) == 0x0B
    assert uart.read(MSR, 1) == 0x00
    uart.write(MCR, 1, LOOP | OUT1)  # ring begins: no delta
    assert uart.read(MSR, 1) == 0x40
    uart.write(MCR, 1, LOOP)  # … ends: TERI
    assert uart.read(MSR, 1) == 0x04


@pytest.mark.parametrize("before", [0x01, 0x02, 0x03, LOOP | OUT2 | RTS])
def test_a_guest_that_uses_dtr_or_rts_is_sent_nothing_while_rts_is_down(uart: Uart, before: int) -> None:
    uart.feed(b"early ")
    uart.write(MCR, 1, OUT2)
    assert read_all(uart) == b"early "  # a guest that knows nothing of it gets its input
    uart.write(MCR, 1, before)
    uart.write(MCR, 1, before & 0x01)
    uart.feed(b"late")
    assert read_all(uart) == b""
    uart.write(MCR, 1, RTS)
    assert read_all(uart) == b"late"


def test_state_moves_to_another_uart(uart: Uart) -> None:
    uart.write(FCR, 1, 0xC1)
    uart.write(MCR, 1, OUT2 | RTS)
    uart.write(IER, 1, 0x05)
    uart.feed(b"k" * 20)
    uart.write(SCR, 1, 7)
    levels: list[bool] = []
    other = Uart(lambda data: None, set_line=levels.append)
    other.load(uart.save())
    assert other.save() == uart.save()
    assert levels == [True]
    assert (other.read(SCR, 1), other.read(IIR, 1), read_all(other)) == (7, 0xC4, b"k" * 20)
