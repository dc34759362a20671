"""The cases of lab 03: what each check gives to the student's code, and what must come of it. All of it from nonces."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import count
from typing import Any

from autograder.model import Case
from autograder.nonces import Nonces
from autograder.stages.common import guest
from autograder.stages.models import expected_console, mmio_prober_writes, page_toucher_writes

PAGE = 4096
READONLY, LOG_DIRTY = 2, 1  # KVM_MEM_*, linux/kvm.h


def pages(nonces: Nonces, label: str, lo: int, hi: int) -> int:
    """A random multiple of the page size, from `lo` to `hi - 1` pages."""
    return PAGE * nonces.range(label, lo, hi)


# ---- 03.1 slots_around: above 0x90000, out of the way of the guest, the GDT and the stack ----


def a_hole(nonces: Nonces, run: int) -> tuple[int, int, int]:
    """(RAM, start, end) in bytes; the first is a PC's: 640 KiB, then the hole for video memory and ROMs up to 1 MiB."""
    if run == 0:
        return pages(nonces, "ram", 0x100, 0x140), 0xA0000, 0x100000
    start = pages(nonces, f"start{run}", 0x90, 0xC0)
    return start + pages(nonces, f"rest{run}", 2, 64), start, start + pages(nonces, f"size{run}", 1, 48)


def around(ram: int, start: int, end: int, shared: bool, marks: Sequence[tuple[int, bytes]]) -> dict[str, Any]:
    return {"ram": ram, "hole_start": start, "hole_end": end, "shared": shared, "marks": [list(mark) for mark in marks]}


def hole_edges(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(4):
        ram, start, end = a_hole(nonces, run)
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "address": start, "size": end - start}
        inputs = around(ram, start, end, False, []) | guest("hole-prober", **parameters)
        label = f"{ram:#x} bytes of RAM and a hole from {start:#x} to {end:#x}"
        cases.append(Case(inputs, expected_console("hole-prober", parameters), label))
    return cases


def what_moved_up(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(4):
        ram, start, end = a_hole(nonces, run)
        size = nonces.range(f"size of mark {run}", 50, 200)
        data = nonces.bytes(f"mark{run}", size)
        last = run % 2 == 1
        offset, gpa = (ram - size, end + ram - start - size) if last else (start, end)
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "address": gpa, "size": size}
        inputs = around(ram, start, end, True, [(offset, data)]) | guest("checksum", **parameters)
        label = f"a checksum of the {'last' if last else 'first'} {size} bytes above the hole {start:#x}–{end - 1:#x}"
        cases.append(Case(inputs, expected_console("checksum", parameters, data=data), label))
    return cases


def small_ram(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(3):
        ram = pages(nonces, f"ram{run}", 0x88, 0x98)
        start = ram + (pages(nonces, f"gap{run}", 1, 32) if run else 0)
        size = nonces.range(f"size{run}", 50, 200)
        data = nonces.bytes(f"mark{run}", size)
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "address": ram - size, "size": size}
        inputs = around(ram, start, start + 0x10000, True, [(ram - size, data)]) | guest("checksum", **parameters)
        label = f"{ram:#x} bytes of RAM and a hole that starts at {start:#x}"
        cases.append(Case(inputs, expected_console("checksum", parameters, data=data), label))
    return cases


# ---- 03.2 set_slot ----


def a_slot_each(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(2):
        numbers = [nonces.range(f"ram{run}", 0, 4), nonces.range(f"data{run}", 5, 12)]
        gpa, size = pages(nonces, f"gpa{run}", 0x100, 0xD0000), pages(nonces, f"size{run}", 2, 9)
        at = nonces.range(f"at{run}", 0, PAGE)
        data = nonces.bytes(f"bytes{run}", nonces.range(f"length{run}", 50, 200))
        room = [pages(nonces, f"room{run}{which}", 1, 5) for which in "ab"]
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "address": gpa + at, "size": len(data)}
        slots = [[numbers[0], 0, 0x80000, room[0], 0, b""], [numbers[1], gpa, size, room[1], 0, bytes(at) + data]]
        label = f"slot {numbers[1]} of {size:#x} bytes at {gpa:#x} in a buffer of {size + room[1]:#x}"
        expected = {"console": expected_console("checksum", parameters, data=data)}
        cases.append(Case({"slots": slots} | guest("checksum", **parameters), expected, label))
    return cases


def flags_that_count(nonces: Nonces) -> list[Case]:
    cases = []
    for run, (name, flags) in enumerate((("KVM_MEM_READONLY", READONLY), ("both flags", READONLY | LOG_DIRTY))):
        gpa, count = pages(nonces, f"gpa{run}", 0x100, 0xD0000), nonces.range(f"count{run}", 4, 9)
        rom = nonces.bytes(f"rom{run}", count)
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "address": gpa, "size": count}
        inputs = {"slots": [[0, 0, 0x80000, 0, 0, b""], [1, gpa, PAGE, 0, flags, rom]]}
        expected = {"console": expected_console("rom-writer", parameters, found=rom), "flags": flags}
        cases.append(Case(inputs | guest("rom-writer", **parameters), expected, f"flags = {name}"))
    return cases


# ---- 03.3 find ----


def two_slots(nonces: Nonces) -> list[list[int]]:
    """RAM around a hole as `slots_around` lists it: the second slot's offset is not its address."""
    low, high = pages(nonces, "low", 0x90, 0xC0), pages(nonces, "high", 16, 40)
    return [[0, low, 0], [low + pages(nonces, "hole", 8, 90), high, low]]


def edges_of_slots(nonces: Nonces) -> list[Case]:
    (_, low, _), (gpa, high, offset) = slots = two_slots(nonces)
    inside = nonces.range("inside", 1, high - 1)
    wanted = {
        0: [0, 0],
        low - 1: [0, low - 1],
        low: None,
        gpa - 1: None,
        gpa: [1, offset],
        gpa + inside: [1, offset + inside],
        gpa + high - 1: [1, offset + high - 1],
        gpa + high: None,
    }
    return [Case({"slots": slots, "addresses": [at]}, answer, f"the address {at:#x}") for at, answer in wanted.items()]


def what_a_guest_wrote(nonces: Nonces) -> list[Case]:
    slots = two_slots(nonces)
    cases = []
    for label, (gpa, size) in {"below the hole": (0x20000, 0x40000), "above the hole": tuple(slots[1][:2])}.items():
        parameters = {"nonce": nonces.u64(label), "address": gpa, "size": size, "count": 12}
        wrote = dict(page_toucher_writes(**parameters))
        inputs = {"slots": slots, "addresses": list(wrote)} | guest("page-toucher", **parameters)
        found = [value.to_bytes(4, "little") for value in wrote.values()]
        cases.append(Case(inputs, found, f"a guest that writes {label}"))
    return cases


# ---- 03.4 serve_mmio ----


def mmio_case(nonces: Nonces, run: int, below: int, length: int, label: str) -> Case:
    """Registers of `length` bytes that begin `below` bytes before the guest's address (negative: behind it)."""
    address = pages(nonces, f"address{run}", 0x80000, 0xFE000)
    nonce, held = nonces.u64(f"nonce{run}"), nonces.bytes(f"held{run}", length)
    base, after, answers = address - below, bytearray(held), []
    for gpa, size, value in mmio_prober_writes(nonce, address):
        places = [gpa + i - base for i in range(size)]
        for place, byte in zip(places, value.to_bytes(size, "little"), strict=True):
            if 0 <= place < length:
                after[place] = byte
        read = bytes(after[place] if 0 <= place < length else 0xFF for place in places)
        answers.append(int.from_bytes(read, "little"))
    parameters = {"nonce": nonce, "address": address}
    console = expected_console("mmio-prober", parameters, answers=answers)
    inputs = {"base": base, "registers": held} | guest("mmio-prober", **parameters)
    return Case(inputs, {"console": console, "registers": bytes(after)}, label)


def widths(nonces: Nonces) -> list[Case]:
    return [mmio_case(nonces, run, 0x40 * run, 2 * PAGE, f"nonce {run + 1}") for run in range(3)]


def nobody_home(nonces: Nonces) -> list[Case]:
    return [
        mmio_case(nonces, 0, -2 * PAGE, 3 * PAGE, "accesses below the first register"),
        mmio_case(nonces, 1, -0x20, 0x18, "accesses on both sides of the registers"),
        mmio_case(nonces, 2, 0, 0x34, "an access of which only half hits the registers"),
    ]


def across_a_page(nonces: Nonces) -> list[Case]:
    return [mmio_case(nonces, run, PAGE * run, 4 * PAGE, "registers on four pages") for run in range(2)]


# ---- 03.5 rom_write ----


def rom_case(nonces: Nonces, run: int, where: str) -> Case:
    gpa, size = pages(nonces, f"gpa{run}", 0x80000, 0xFE000), pages(nonces, f"size{run}", 1, 5)
    fill, count = nonces.bytes(f"fill{run}", 64), 2 * nonces.range(f"count{run}", 3, 7)
    starts = {"inside": nonces.range(f"at{run}", 0, size - count), "end": size - count // 2, "start": -count // 2}
    first = starts[where]
    parameters = {"nonce": nonces.u64(f"nonce{run}"), "address": gpa + first, "size": count}
    offsets = range(first, first + count)
    found = bytes(fill[at % 64] if 0 <= at < size else 0xFF for at in offsets)
    console = expected_console("rom-writer", parameters, found=found)
    wrote = [bytes([int(line[:2], 16)]) for line in console.decode().splitlines()]
    log = [[gpa + at, byte] for at, byte in zip(offsets, wrote, strict=True) if 0 <= at < size]
    outside = [[gpa + at, 0, False] for at in offsets if not 0 <= at < size]
    answers = [[gpa + at, 1, 0 <= at < size] for at in offsets] + outside
    inputs = {"rom_gpa": gpa, "rom_size": size, "fill": fill} | guest("rom-writer", **parameters)
    label = {"inside": "a guest that writes to a ROM"}.get(where, f"a guest that writes across the {where} of a ROM")
    return Case(inputs, {"console": console, "log": log, "answers": answers}, label)


def rom_inside(nonces: Nonces) -> list[Case]:
    return [rom_case(nonces, run, "inside") for run in range(2)]


def rom_edges(nonces: Nonces) -> list[Case]:
    return [rom_case(nonces, run, where) for run, where in enumerate(("end", "start"))]


# ---- 03.6 load_elf ----


def elf_guest(nonces: Nonces, start: str = "real") -> list[Case]:
    from minivmm import guests

    parameters = {"nonce": nonces.u64("nonce")}
    image = guests.load("elf-segments").patched(**parameters)
    garbage = bytes(byte | 1 for byte in nonces.bytes("garbage", 509))
    return [
        Case(
            {"image": image, "garbage": garbage, "start": start},
            {"console": expected_console("elf-segments", parameters), "entry": guests.load("elf-segments").entry},
            "the guest elf-segments",
        )
    ]


PT_LOAD, PT_NOTE = 1, 4


def an_elf(entry: int, segments: Sequence[tuple[int, int, int, bytes]]) -> bytes:
    """An ELF64 executable with these (type, virtual address, physical address, data) and no sections (man 5 elf)."""
    offset = 64 + 56 * len(segments)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, entry, 64, 0, 0, 64, 56, len(segments), 64, 0, 0
    )
    table, content = b"", b""
    for kind, virtual, physical, data in segments:
        size = len(data)
        table += struct.pack("<IIQQQQQQ", kind, 7, offset + len(content), virtual, physical, size, size, 1)
        content += data
    return header + table + content


def made_up_elf(nonces: Nonces) -> list[Case]:
    cases = elf_guest(nonces, start="theirs")
    base = 0xFFFF_FFFF_8000_0000  # where a kernel is linked, and where no physical memory is
    places = [pages(nonces, f"page{n}", 16 + 16 * n, 24 + 16 * n) + nonces.range(f"odd{n}", 0, 64) for n in range(3)]
    datas = [nonces.bytes(f"data{n}", nonces.range(f"size{n}", 20, 60)) for n in range(3)]
    order = [nonces.choice("first", (1, 2)), 0]
    order.append(3 - order[0])
    loads = [(PT_LOAD, base + places[n], places[n], datas[n]) for n in order]
    note = (PT_NOTE, base + 0x5000, 0x5000, nonces.bytes("note", 24))
    entry = places[2] + nonces.range("entry", 1, 16)
    expected = {"entry": entry, "loads": [list(load[1:]) for load in loads], "note": list(note[1:])}
    inputs = {"image": an_elf(entry, [loads[0], note, *loads[1:]]), "garbage": b"\xff", "start": ""}
    return [*cases, Case(inputs, expected, "a file whose virtual and physical addresses differ")]


# ---- 03.7 read_dirty_log, 03.8 dirty_pages, 03.9 heat ----


def touching(nonces: Nonces, run: int, count: int) -> tuple[dict[str, Any], list[int]]:
    """Inputs that run page-toucher, and the pages that it writes, in order."""
    size = PAGE * count
    address = pages(nonces, f"address{run}", 0x100, 0x8000)
    writes = nonces.range(f"writes{run}", 5, 15)
    parameters = {"nonce": nonces.u64(f"nonce{run}"), "address": address, "size": size, "count": writes}
    touched = sorted({gpa // PAGE * PAGE for gpa, _ in page_toucher_writes(**parameters)})
    return {"others": nonces.range(f"others{run}", 1, 4)} | guest("page-toucher", **parameters), touched


def logs(nonces: Nonces) -> list[Case]:
    cases = []
    for run, (lo, hi) in enumerate(((129, 192), (65, 127), (64, 65), (3, 20))):
        count = nonces.range(f"pages{run}", lo, hi)
        inputs, touched = touching(nonces, run, count)
        first = inputs["parameters"]["address"]
        bitmap = sum(1 << (gpa - first) // PAGE for gpa in touched).to_bytes(-(-count // 64) * 8, "little")
        cases.append(Case(inputs, bitmap, f"a slot of {count} pages"))
    return cases


def bitmaps(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(2):
        count = nonces.range(f"pages{run}", 40, 300)
        inputs, touched = touching(nonces, run, count)
        label = f"the log of a guest that wrote to {len(touched)} of {count} pages"
        cases.append(Case(inputs | {"first_gpa": inputs["parameters"]["address"]}, touched, label))
    bitmap, first = nonces.bytes("bitmap", 24), pages(nonces, "first", 1, 0x100000)
    wanted = [first + PAGE * bit for bit in range(192) if bitmap[bit // 8] >> bit % 8 & 1]
    cases.append(Case({"bitmap": bitmap, "first_gpa": first}, wanted, "a bitmap of 192 pages"))
    return cases


def rounds_of_heat(nonces: Nonces) -> list[Case]:
    start = pages(nonces, "start", 0x90, 0xA0)
    end, rest = start + pages(nonces, "hole", 8, 64), pages(nonces, "rest", 10, 20)
    counts: dict[int, int] = {}
    rounds, places, wrote = [], [], []
    # Below the hole, above it, above again, …: pages that stay warm, and rounds that leave one slot cold.
    for number in range(5):
        address, size = ((0x20000, 0x20000), (end, rest))[number % 3 != 0]
        for attempt in count():
            nonce = nonces.u64(f"nonce{number}, {attempt}")
            parameters = {"nonce": nonce, "address": address, "size": size, "count": 24}
            touched = {gpa // PAGE * PAGE for gpa, _ in page_toucher_writes(**parameters)}
            # One round reaches both ends of the upper slot, so that a slot which is off by a page always shows.
            if number != 1 or {end, end + rest - PAGE} <= touched:
                break
        for gpa in touched:
            counts[gpa] = counts.get(gpa, 0) + 1
        rounds.append(parameters)
        last = list(dict(page_toucher_writes(**parameters)).items())[-6:]
        places.append([gpa - (end - start if gpa >= end else 0) for gpa, _ in last])
        wrote.append([value.to_bytes(4, "little") for _, value in last])
    inputs = {"ram": start + rest, "hole_start": start, "hole_end": end, "rounds": rounds, "guest": "page-toucher"}
    inputs["places"] = places
    expected = {"counts": counts, "wrote": wrote, "regions": [[0x20000, 0x40000], [end, end + rest]]}
    return [Case(inputs, expected, f"{len(rounds)} rounds")]
