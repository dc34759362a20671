"""Every reference guest, run on every backend, against its model."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from autograder.stages import models
from minivmm.machine import Machine

PORT = 0x500
NONCES = (0, 0x0123_4567_89AB_CDEF, 0xFEDC_BA98_8000_0001, (1 << 64) - 1)
LETTERS = bytes(range(1, 200))

# Guest, parameters, what its port answers, what the model is told. Guests that need more have their own test below.
CASES: list[tuple[str, dict[str, int], Any, dict[str, Any]]] = [
    ("hello", {}, (), {}),
    ("countdown", {"count": 5}, (), {}),
    ("countdown", {"count": 0}, (), {}),
    ("rep-outsb", {"count": 100}, (), {}),
    ("rep-outsb", {"count": 0}, (), {}),
    ("rep-outsw", {"count": 33}, (), {}),
    ("rep-insb", {"count": 40}, LETTERS, {"received": LETTERS}),
    ("rep-insb", {"count": 3000}, LETTERS, {"received": LETTERS}),
    ("rep-insb", {"count": 0}, (), {}),
    ("port-echo", {}, b"hello\0more", {"received": b"hello\0more"}),
    ("port-echo", {"count": 3}, b"hello", {"received": b"hello"}),
    ("port-echo", {"count": 10}, b"hello", {"received": b"hello"}),
    ("port-widths", {}, (0x12, 0x3456, 0x789A_BCDE), {"answers": (0x12, 0x3456, 0x789A_BCDE)}),
    ("unknown-port", {}, (), {}),
    ("mode-walk", {}, (), {}),
    ("real-segments", {}, (), {}),
    ("real-hello", {}, (), {}),
    ("protected-hello", {}, (), {}),
    ("long-hello", {}, (), {}),
    ("msr-reader", {}, (), {}),
    ("msr-reader", {"option": 0}, (), {}),
    ("mmio-prober", {}, (), {}),
    ("rom-writer", {"size": 20}, (), {}),
    ("rom-writer", {"size": 0}, (), {}),
    ("page-toucher", {}, (), {}),
    ("page-toucher", {"count": 0}, (), {}),
    ("page-toucher", {"size": 0xFFF}, (), {}),
    ("checksum", {"address": 0x30000, "size": 500}, (), {"data": bytes(500)}),
    ("checksum", {"size": 0}, (), {}),
    ("checksum-long", {"address": 0x30000, "size": 500}, (), {"data": bytes(500)}),
    ("checksum-real", {"address": 0x8000, "size": 77}, (), {"data": bytes(77)}),
]


@pytest.mark.parametrize(("name", "parameters", "answers", "host"), CASES)
@pytest.mark.parametrize("nonce", NONCES, ids=hex)
def test_guest_does_what_its_model_says(run_guest, name, parameters, answers, host, nonce):
    run = run_guest(name, answers=answers, nonce=nonce, port=PORT, **parameters)
    assert run.stop.reason == "halted"
    assert run.printed == models.expected_console(name, {"nonce": nonce, **parameters}, **host)


def test_prints_on_the_serial_port_by_default(run_guest):
    run = run_guest("hello", nonce=7)
    assert bytes(run.machine.console) == models.expected_console("hello", {"nonce": 7})


@pytest.mark.parametrize(("name", "end", "nonce"), [("spinner", "timeout", 3), ("triple-fault", "died", 1 << 63)])
def test_guests_that_never_end_well(run_guest, name, end, nonce):
    run = run_guest(name, nonce=nonce, port=PORT, timeout=0.3)
    assert run.stop.reason == end
    assert run.printed == models.expected_console(name, {"nonce": nonce})


@pytest.mark.parametrize("nonce", NONCES, ids=hex)
def test_debug_exit(run_guest, nonce):
    stop = run_guest("debug-exit", nonce=nonce).stop
    (value,) = models.expected_console("debug-exit", {"nonce": nonce})
    assert (stop.reason, stop.exit_code) == ("debug-exit", value << 1 | 1)


def test_the_widths_of_port_widths(run_guest):
    run = run_guest("port-widths", nonce=5, port=PORT)
    assert [size for size, _ in run.device.written] == [1, 1, 2, 2, 4, 4]


def test_checksum_reaches_above_1_mib_and_sees_each_byte(run_guest):
    data = bytes(i * 7 & 0xFF for i in range(4096))

    def prepare(machine: Machine) -> None:
        machine.memory.write(0x17F001, data)

    run = run_guest("checksum", nonce=9, port=PORT, memory=2 << 20, prepare=prepare, address=0x17F001, size=4096)
    assert run.printed == models.expected_console("checksum", {"nonce": 9, "size": 4096}, data=data)
    swapped = bytes([data[1], data[0]]) + data[2:]
    assert run.printed != models.expected_console("checksum", {"nonce": 9, "size": 4096}, data=swapped)


def test_mode_walk_ends_early_where_cpuid_offers_no_long_mode(run_guest):
    run = run_guest("mode-walk", nonce=4, port=PORT, prepare=lambda machine: machine.vcpu.set_cpuid([]))
    assert run.stop.reason == "halted"
    assert run.printed == models.expected_console("mode-walk", {"nonce": 4}, long_mode=False)


def test_real_segments_writes_where_the_model_says(run_guest):
    run = run_guest("real-segments", nonce=11, port=PORT, memory=2 << 20)
    assert run.printed == models.expected_console("real-segments", {"nonce": 11}, above=0)
    writes, _ = models.real_segments_writes(11)
    for segment, offset, byte in writes:
        assert run.machine.memory.read(segment * 16 + offset, 1)[0] == byte


@pytest.mark.parametrize("limit", [0xFFFF_FFFF, 0x1F, 0x0B, 0x00])
def test_segment_base_reads_through_fs_up_to_its_limit(run_guest, limit):
    values = [0x1111_0000 + i for i in range(8)]

    def set_fs(machine: Machine) -> None:
        machine.memory.write(0x30000, struct.pack("<8I", *values))
        sregs = machine.vcpu.get_sregs()
        sregs.fs.base, sregs.fs.limit, sregs.fs.g = 0x30000, limit, limit > 0xFFFFF
        machine.vcpu.set_sregs(sregs)

    run = run_guest("segment-base", nonce=6, port=PORT, prepare=set_fs, count=8)
    assert run.stop.reason == "halted"
    assert run.printed == models.expected_console("segment-base", {"nonce": 6, "count": 8}, values=values, limit=limit)


SELECTOR = 0x28
WHOLE, ABSENT = 0x0040_9303_0000_001F, 0x0040_1303_0000_001F  # base 0x30000, limit 0x1F; the second is not present


@pytest.mark.parametrize(
    ("descriptor", "option", "host"),
    [
        (WHOLE, SELECTOR, {"limit": 0x1F}),
        (ABSENT, SELECTOR, {"refused": "#NP"}),
        (WHOLE, 0x1000, {"refused": "#GP"}),  # far beyond the GDT's limit
    ],
)
def test_segment_load_takes_the_descriptor_from_the_gdt(run_guest, descriptor, option, host):
    values = [0x2222_0000 + i for i in range(8)]

    def add_descriptor(machine: Machine) -> None:
        machine.memory.write(0x30000, struct.pack("<8I", *values))
        sregs = machine.vcpu.get_sregs()
        machine.memory.write(sregs.gdt.base + SELECTOR, struct.pack("<Q", descriptor))
        sregs.gdt.limit = SELECTOR + 7
        machine.vcpu.set_sregs(sregs)

    run = run_guest("segment-load", nonce=6, port=PORT, prepare=add_descriptor, option=option, count=10)
    parameters = {"nonce": 6, "option": option, "count": 10}
    assert run.stop.reason == "halted"
    assert run.printed == models.expected_console("segment-load", parameters, values=values, **host)


def test_cpuid_reader_shows_what_the_host_set(run_guest):
    leaves = [(0x4000_0001, 1, 2, 3), (4, 0xFFFF_FFFF, 6, 7)]
    entries = [
        {"function": 0x4000_0000 + i, "eax": a, "ebx": b, "ecx": c, "edx": d} for i, (a, b, c, d) in enumerate(leaves)
    ]
    run = run_guest(
        "cpuid-reader",
        nonce=8,
        port=PORT,
        option=0x4000_0000,
        count=2,
        prepare=lambda machine: machine.vcpu.set_cpuid(entries),
    )
    assert run.printed == models.expected_console("cpuid-reader", {"nonce": 8, "count": 2}, leaves=leaves)


@pytest.mark.parametrize(
    ("msr", "mask"),
    [(0x174, 0xFFFF), (0x175, 0x7FFF_FFFF_FFFF), (0x176, 0x7FFF_FFFF_FFFF), (0xC000_0082, 0x7FFF_FFFF_FFFF)],
)
def test_msr_reader_writes_the_masked_nonce(run_guest, msr, mask):
    run = run_guest("msr-reader", nonce=NONCES[2], port=PORT, value=msr, option=mask)
    parameters = {"nonce": NONCES[2], "value": msr, "option": mask}
    assert run.printed == models.expected_console("msr-reader", parameters)
    assert run.machine.vcpu.get_msr(msr) == NONCES[2] & mask


def test_mmio_prober_reaches_a_device(run_guest):
    class Register:
        """Keeps bytes, and gives them back inverted."""

        name, claim = "register", range(0xD000_0000, 0xD000_2000)

        def __init__(self) -> None:
            self.bytes = bytearray(0x2000)

        def read(self, offset: int, size: int) -> int:
            return int.from_bytes(self.bytes[offset : offset + size], "little") ^ (1 << 8 * size) - 1

        def write(self, offset: int, size: int, value: int) -> None:
            self.bytes[offset : offset + size] = value.to_bytes(size, "little")

        def save(self) -> dict[str, Any]:
            return {}

        def load(self, state: dict[str, Any]) -> None:
            pass

    run = run_guest("mmio-prober", nonce=12, port=PORT, prepare=lambda machine: machine.mmio.attach(Register()))
    writes = models.mmio_prober_writes(12, 0xD000_0000)
    answers = [value ^ (1 << 8 * size) - 1 for _, size, value in writes]
    assert run.printed == models.expected_console("mmio-prober", {"nonce": 12}, answers=answers)


def test_rom_writer_finds_a_rom_unchanged(run_guest):
    rom = bytes(range(0x80, 0xA0))

    def add_rom(machine: Machine) -> None:
        machine.memory.add(0x10_0000, 0x1000, name="rom", read_only=True)
        machine.memory.write(0x10_0000, rom)

    run = run_guest("rom-writer", nonce=13, port=PORT, before=add_rom, address=0x10_0000, size=32)
    assert run.printed == models.expected_console("rom-writer", {"nonce": 13, "size": 32}, found=rom)


def test_hole_prober_finds_all_ones_in_the_hole(run_guest):
    def with_a_hole(machine: Machine) -> None:
        machine.memory.add(0, 0xA0000)
        machine.memory.add(0xC0000, 0x40000)

    run = run_guest("hole-prober", nonce=14, port=PORT, memory=0, before=with_a_hole, address=0xA0000, size=0x20000)
    assert run.printed == models.expected_console("hole-prober", {"nonce": 14})
    without = run_guest("hole-prober", nonce=14, port=PORT, address=0xA0000, size=0x20000)
    assert without.printed != run.printed


@pytest.mark.parametrize("nonce", NONCES, ids=hex)
def test_page_toucher_dirties_the_pages_that_the_model_names(run_guest, nonce):
    slots = []

    def add_logged(machine: Machine) -> None:
        slots.append(machine.memory.add(0x20_0000, 0x10_0000, name="logged", log_dirty=True))

    def forget(machine: Machine) -> None:
        machine.memory.dirty_pages(slots[-1])

    where = {"address": 0x20_0000, "size": 0x10_0000, "count": 50}
    run = run_guest("page-toucher", nonce=nonce, port=PORT, before=add_logged, prepare=forget, **where)
    writes = models.page_toucher_writes(nonce, **where)
    assert set(run.machine.memory.dirty_pages(slots[-1])) == {address & ~0xFFF for address, _ in writes}
    for address, value in dict(writes).items():
        assert run.machine.memory.read(address, 4) == value.to_bytes(4, "little")


def test_elf_segments_sees_a_clean_bss_in_dirty_memory(run_guest):
    def dirt(machine: Machine) -> None:
        machine.memory.write(0x30000, b"\xa5" * 0x4000)

    run = run_guest("elf-segments", nonce=15, port=PORT, before=dirt)
    assert run.stop.reason == "halted"
    assert run.printed == models.expected_console("elf-segments", {"nonce": 15})


def test_elf_segments_sees_a_dirty_bss(run_guest):
    def spoil(machine: Machine) -> None:
        machine.memory.write(0x31000, b"\1")

    run = run_guest("elf-segments", nonce=15, port=PORT, prepare=spoil)
    assert run.stop.reason == "halted"
    assert run.printed != models.expected_console("elf-segments", {"nonce": 15})
