"""Every exit reason decodes to a typed object, with the fields that KVM wrote."""

from __future__ import annotations

import pytest

from minivmm import exits
from minivmm.kvm import constants as k
from minivmm.kvm import ffi
from minivmm.kvm.run_page import RunPage

SIZE = 3 * 4096


@pytest.fixture
def run() -> RunPage:
    buffer = ffi.new("char[]", SIZE)
    page = RunPage(ffi.cast("struct kvm_run *", buffer), SIZE)
    KEEP.append(buffer)
    return page


KEEP: list[object] = []  # cffi frees a buffer with its last owner, and a cast pointer is none


def test_a_string_write_carries_all_its_items(run: RunPage) -> None:
    run.c.exit_reason = k.KVM_EXIT_IO
    io = run.io
    io.direction, io.size, io.port, io.count, io.data_offset = k.KVM_EXIT_IO_OUT, 2, 0x3F8, 3, 4096
    run.page[4096:4102] = b"abcdef"
    exit = exits.decode(run)
    assert exit == exits.PortOut(0x3F8, 2, 3, b"abcdef")
    assert str(exit) == "out16 port 0x3f8 × 3: 61 62 63 64 65 66"


def test_an_answer_to_a_read_lands_in_the_page(run: RunPage) -> None:
    run.c.exit_reason = k.KVM_EXIT_IO
    io = run.io
    io.direction, io.size, io.port, io.count, io.data_offset = k.KVM_EXIT_IO_IN, 1, 0x60, 4, 4096
    exit = exits.decode(run)
    assert isinstance(exit, exits.PortIn)
    exit.buffer[:] = b"wxyz"
    assert bytes(run.page[4096:4101]) == b"wxyz\0"


def test_memory_exits(run: RunPage) -> None:
    run.c.exit_reason = k.KVM_EXIT_MMIO
    run.mmio.phys_addr, run.mmio.len, run.mmio.is_write = 0xFEE0_0000, 3, 1
    run.mmio.data[0], run.mmio.data[2] = 0x11, 0x33
    assert exits.decode(run) == exits.MmioWrite(0xFEE0_0000, 3, b"\x11\0\x33")
    run.mmio.is_write = 0
    exit = exits.decode(run)
    assert isinstance(exit, exits.MmioRead)
    exit.buffer[:] = b"abc"
    assert bytes(run.mmio.data[0:3]) == b"abc"


def test_an_internal_error_names_the_instruction(run: RunPage) -> None:
    run.c.exit_reason = k.KVM_EXIT_INTERNAL_ERROR
    run.emulation_failure.suberror, run.emulation_failure.ndata, run.emulation_failure.flags = 1, 3, 1
    run.emulation_failure.insn_size = 3
    for i, byte in enumerate(b"\x0f\x01\xc1"):
        run.emulation_failure.insn_bytes[i] = byte
    exit = exits.decode(run)
    assert isinstance(exit, exits.InternalError)
    assert exit.instruction == b"\x0f\x01\xc1"
    assert "emulation failed at 0f 01 c1" in str(exit)


def test_an_msr_exit_is_answered_in_the_page(run: RunPage) -> None:
    run.c.exit_reason = k.KVM_EXIT_X86_RDMSR
    run.msr.index, run.msr.reason = 0x1234, 2
    exit = exits.decode(run)
    assert isinstance(exit, exits.ReadMsr)
    exit.refuse()
    assert run.msr.error == 1
    exit.answer(77)
    assert (run.msr.error, run.msr.data) == (0, 77)


@pytest.mark.parametrize("number", sorted(k.EXIT_NAMES))
def test_every_reason_has_a_type(number: int, run: RunPage) -> None:
    run.c.exit_reason = number
    exit = exits.decode(run)
    assert exit.name == k.EXIT_NAMES[number]
    assert str(exit)
    assert isinstance(exit, exits.Unknown) == (number == k.KVM_EXIT_UNKNOWN)
    assert isinstance(exit, exits.Rare) == (number in exits.Rare.MEANING)
    if isinstance(exit, exits.Rare):
        assert exit.meaning


def test_a_reason_from_the_future_is_named_not_lost(run: RunPage) -> None:
    run.c.exit_reason = 4711
    run.hw.hardware_exit_reason = 0x80
    exit = exits.decode(run)
    assert str(exit) == "exit reason 4711, hardware reason 0x80"
