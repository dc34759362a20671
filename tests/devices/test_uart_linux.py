"""What Linux's 8250 driver does to a port, step by step: it must find a 16550A with a FIFO of 16, and lose nothing.

Source: the steps as the datasheet's features allow them; Linux drivers/tty/serial/8250/8250_port.c does them in this
order (autoconfig, size_fifo, startup).
"""

from __future__ import annotations

import threading

import pytest

from minivmm.devices.uart import Uart

IER, IIR, FCR, LCR, MCR, LSR, MSR = 1, 2, 2, 3, 4, 5, 6
DTR, RTS, OUT2, LOOP = 0x01, 0x02, 0x08, 0x10


class Driver:
    """The driver's side, over one port."""

    def __init__(self, uart: Uart) -> None:
        self.uart = uart

    def out(self, register: int, value: int) -> None:
        self.uart.write(register, 1, value)

    def inb(self, register: int) -> int:
        return self.uart.read(register, 1)

    def clear_fifos(self) -> None:
        for value in (0x01, 0x07, 0x00):
            self.out(FCR, value)

    def console(self) -> None:
        """Prints before it has looked at the port: DTR, 8 bits, polled."""
        self.out(IER, 0)
        self.out(LCR, 0x13)
        self.out(FCR, 0)
        self.out(MCR, DTR)
        for _ in range(100):
            assert self.inb(LSR) & 0x20
            self.out(0, ord("."))

    def autoconfig(self, loopback: bool = True) -> str:
        """The type it finds. On a PC's usual ports it leaves the loopback test out."""
        saved = self.inb(IER)
        self.out(IER, 0)
        low = self.inb(IER) & 0x0F
        self.out(IER, 0x0F)
        high = self.inb(IER) & 0x0F
        self.out(IER, saved)
        if (low, high) != (0, 0x0F):
            return "nothing there"
        saved_mcr, saved_lcr = self.inb(MCR), self.inb(LCR)
        if loopback:
            self.out(MCR, LOOP | OUT2 | RTS)
            if self.inb(MSR) & 0xF0 != 0x90:
                return "no loopback"
        self.out(MCR, saved_mcr)
        self.out(LCR, 0xBF)
        self.out(2, 0)  # the EFR of later chips
        self.out(LCR, 0)
        self.out(FCR, 0x01)
        kind = ("8250", "unknown", "16550", "16550A")[self.inb(IIR) >> 6]
        if kind == "16550A" and self.has_extensions():
            kind = "something later"
        self.out(LCR, saved_lcr)
        self.out(MCR, saved_mcr)
        self.clear_fifos()
        self.inb(0)
        self.out(IER, 0)
        return kind

    def has_extensions(self) -> bool:
        for lcr in (0x80, 0xBF):  # an EFR that reads 0: 16650, 16850
            self.out(LCR, lcr)
            if self.inb(2) == 0:
                return True
        self.out(LCR, 0)
        mcr = self.inb(MCR)
        self.out(LCR, 0xE0)
        if not (self.inb(2) ^ mcr) & LOOP:  # a National SuperIO shows MCR's bit 4 there
            self.out(LCR, 0)
            self.out(MCR, mcr ^ LOOP)
            self.out(LCR, 0xE0)
            found = self.inb(2) ^ mcr
            self.out(LCR, 0)
            self.out(MCR, mcr)
            if found & LOOP:
                return True
        self.out(LCR, 0)
        widths = []
        for lcr in (0x00, 0x80):  # a 16750 has a 64-byte FIFO, which it enables under DLAB
            self.out(LCR, lcr)
            self.out(FCR, 0x21)
            widths.append(self.inb(IIR) >> 5)
            self.out(FCR, 0x01)
        self.out(LCR, 0)
        self.out(IER, 0x40)  # the XScale's unit enable
        return widths == [6, 7] or bool(self.inb(IER) & 0x40)

    def fifo_size(self) -> int:
        """Loops back 256 bytes and counts those that arrive."""
        saved_mcr = self.inb(MCR)
        self.out(FCR, 0x07)
        self.out(MCR, LOOP)
        for byte in range(256):
            self.out(0, byte)
        count = 0
        while count < 256 and self.inb(LSR) & 0x01:
            self.inb(0)
            count += 1
        self.out(MCR, saved_mcr)
        return count

    def startup(self) -> list[str]:
        """Opens the port. The bugs of other chips that it believes to see."""
        bugs = []
        self.clear_fifos()
        for register in (LSR, 0, IIR, MSR):
            self.inb(register)
        if self.inb(LSR) == 0xFF:
            bugs.append("no port")
        self.out(LCR, 0x03)
        self.out(MCR, DTR | OUT2)
        self.out(IER, 0x02)
        first = self.inb(IIR)
        self.out(IER, 0)
        self.out(IER, 0x02)
        if not first & 1 and self.inb(IIR) & 1:
            bugs.append("THRE does not come again")
        self.out(IER, 0)
        self.out(IER, 0x02)
        if self.inb(LSR) & 0x40 and self.inb(IIR) & 1:
            bugs.append("no THRE on enabling")
        self.out(IER, 0)
        for register in (LSR, 0, IIR, MSR):
            self.inb(register)
        self.out(IER, 0x05)
        self.out(FCR, 0x01)
        self.out(FCR, 0x81)
        self.out(MCR, DTR | OUT2)
        assert self.interrupt() == b""
        self.out(MCR, DTR | RTS | OUT2)
        return bugs

    def interrupt(self) -> bytes:
        """The handler: everything that waits."""
        received = bytearray()
        while not self.inb(IIR) & 1:
            while self.inb(LSR) & 0x01:
                received.append(self.inb(0))
        return bytes(received)


@pytest.fixture
def line() -> list[bool]:
    return []


@pytest.fixture
def uart(line: list[bool]) -> Uart:
    return Uart(lambda data: None, set_line=line.append)


def test_it_is_recognised_as_a_16550a(uart: Uart) -> None:
    driver = Driver(uart)
    assert driver.autoconfig() == "16550A"
    assert driver.fifo_size() == 16
    assert driver.startup() == []


@pytest.mark.parametrize("console", [True, False])
def test_what_was_typed_before_the_port_was_opened_is_all_there(uart: Uart, line: list[bool], console: bool) -> None:
    typed = b"uname -a\nls -l /sys/class/block\npoweroff -f\n" * 3
    uart.feed(typed)
    driver = Driver(uart)
    if console:
        driver.console()
    assert driver.autoconfig(loopback=not console) == "16550A"
    driver.startup()
    assert line[-1:] == [True]
    assert driver.interrupt() == typed
    assert line[-1] is False


def test_it_can_be_fed_while_a_guest_reads(uart: Uart) -> None:
    driver = Driver(uart)
    driver.startup()
    feeder = threading.Thread(target=lambda: [uart.feed(bytes((n & 0xFF,))) for n in range(5000)])
    feeder.start()
    received = bytearray()
    while feeder.is_alive():
        received += driver.interrupt()
    feeder.join()
    received += driver.interrupt()
    assert received == bytes(n & 0xFF for n in range(5000))


def test_a_sink_may_wait_for_a_thread_that_feeds() -> None:
    fed = threading.Event()

    def echo(data: bytes) -> None:
        threading.Thread(target=lambda: (uart.feed(data), fed.set())).start()
        assert fed.wait(10)

    uart = Uart(echo)
    uart.write(0, 1, ord("e"))
    assert uart.read(LSR, 1) & 1
    assert uart.read(0, 1) == ord("e")
