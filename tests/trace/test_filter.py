"""The filter of a trace: what its terms mean, alone and together, and what it says to a term that means nothing."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivmm.exits import Exit, Halted, Interrupted, MmioRead, MmioWrite, PortIn, PortOut, Shutdown, WriteMsr
from minivmm.kvm.run_page import RunPage
from minivmm.trace.filter import Served, TraceFilter, TraceFilterError

SOMETHING = memoryview(bytearray(8))


def served(exit: Exit, device: str = "", cpu: int = 0, service: int | None = 10_000) -> Served:
    return Served(exit, cpu, device, service)


OUT = served(PortOut(0x3F8, 1, 1, b"H"), "16550 UART", service=60_000)
IN = served(PortIn(0x3FD, 1, 1, SOMETHING), "16550 UART", cpu=1)
POST = served(PortOut(0x80, 1, 1, b"\1"), "POST code")
READ = served(MmioRead(0xD000_0004, 4, SOMETHING), "virtio-mmio: block", cpu=1)
WRITE = served(MmioWrite(0xD000_1000, 4, b"abcd"))
HLT = served(Halted(), service=None)
MSR = served(WriteMsr(0, 0x10, 5, RunPage.__new__(RunPage)))
KICK = served(Interrupted())
SHUTDOWN = served(Shutdown(), service=None)
ALL = [OUT, IN, POST, READ, WRITE, HLT, MSR, KICK, SHUTDOWN]


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("", [OUT, IN, POST, READ, WRITE, HLT, MSR, SHUTDOWN]),
        (" , ", [OUT, IN, POST, READ, WRITE, HLT, MSR, SHUTDOWN]),
        ("io", [OUT, IN, POST]),
        ("out", [OUT, POST]),
        ("mmio, hlt", [READ, WRITE, HLT]),
        ("msr", [MSR]),
        ("kick", [KICK]),
        ("port=0x3f8", [OUT]),
        ("port=0x3f8-0x3ff", [OUT, IN]),
        ("port=0x3f8,address=0xd0001000", [OUT, WRITE]),
        ("port=0x3f8-0x3ff,in", [IN]),
        ("device=uart", [OUT, IN]),
        ("device=Block,device=post", [POST, READ]),
        ("io,mmio,port=0x3f8,device=uart", [OUT]),
        ("io,mmio,cpu=1", [IN, READ]),
        ("slower=50us", [OUT]),
        ("slower=0.01ms", [OUT, IN, POST, READ, WRITE, MSR]),
        ("!io", [READ, WRITE, HLT, MSR, SHUTDOWN]),
        ("io,!device=uart", [POST]),
        ("!io,!hlt,!port=0x80", [READ, WRITE, MSR, SHUTDOWN]),
        ("io,!cpu=1", [OUT, POST]),
    ],
)
def test_what_passes(text: str, passed: list[Served]) -> None:
    wanted = TraceFilter(text)
    assert [one for one in ALL if wanted(one)] == passed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("iox", "'iox' is no kind of exit. Did you mean io?"),
        ("uart", "It knows io, mmio, msr, in, out"),
        ("prot=0x3f8", "'prot=0x3f8' asks for 'prot', which no exit has. Did you mean port?"),
        ("port=com1", "needs a number or a range"),
        ("port=5-1", "empty range"),
        ("port=-1", "needs a number or a range"),
        ("port=", "needs a number or a range"),
        ("device=", "names no device"),
        ("slower=5", "a time with its unit, such as 50us"),
        ("slower=" + "9" * 400 + "s", "a time with its unit"),
        ("slower=infs", "a time with its unit"),
        ("!", "is no kind of exit"),
        ("io,,=", "which no exit has"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(TraceFilterError) as caught:
        TraceFilter(text)
    assert words in str(caught.value)


@given(st.text(alphabet="iomhltprsadecvu=,!-0123xf .µ", max_size=30) | st.text(max_size=30))
def test_any_text_is_a_filter_or_is_refused_in_words(text: str) -> None:
    with contextlib.suppress(TraceFilterError):  # any other exception fails the test
        wanted = TraceFilter(text)
        assert {wanted(one) for one in ALL} <= {True, False}
