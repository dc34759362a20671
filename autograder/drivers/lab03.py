"""Drivers of lab 03: guests that find out what memory the student's code has given them. Sandbox side: no answers."""

from __future__ import annotations

import io
from typing import Any

from autograder.drivers.base import Student
from autograder.drivers.machines import Served, a_machine, run_to_end
from autograder.drivers.passing import Overheard
from minivmm import guests
from minivmm.kvm import (
    KVM_GET_DIRTY_LOG,
    KVM_SET_USER_MEMORY_REGION,
    KvmError,
    address_of,
    anonymous_memory,
    calls,
    ffi,
    struct,
)
from minivmm.kvm.run_page import RunPage
from minivmm.machine import Machine
from minivmm.memory import GuestMemoryError, MemorySlot

Observed = dict[str, Any]

PAGE = 4096
RAM = 1 << 20
SECONDS = 1.5  # for one guest; they need a few milliseconds, but the machine may be busy
CONSOLE, EXITS = 4096, 200  # bytes and lines that go back
LARGEST = 64 << 20  # bytes of one slot that a student may ask for
BEYOND = {"stop": "died", "why": "a slot reaches beyond its buffer", "console": b"", "exits": []}


def hearing_regions() -> Overheard:
    """What KVM_SET_USER_MEMORY_REGION is told."""
    fields = ("slot", "flags", "guest_phys_addr", "memory_size", "userspace_addr")
    return Overheard(KVM_SET_USER_MEMORY_REGION, "kvm_userspace_memory_region", fields, EXITS)


def run(machine: Machine) -> Observed:
    return run_to_end(machine, SECONDS, CONSOLE, EXITS)


def run_guest(machine: Machine, inputs: Observed) -> Observed:
    machine.load_guest(guests.load(inputs["guest"]), **inputs["parameters"])
    return run(machine)


def adopt(machine: Machine, number: int, gpa: int, data: Any) -> None:
    """Tells the machine of a slot that the student gave KVM: no ioctl, only so that guests can be loaded into it."""
    machine.memory.slots.append(MemorySlot(number, gpa, len(data), "theirs", False, False, data, memoryview(data)))


def repeated(pattern: bytes, size: int) -> bytes:
    """`size` bytes of the pattern, again and again."""
    return (pattern * (size // len(pattern) + 1))[:size]


def memory_around_a_hole(student: Student, inputs: Observed) -> Observed:
    """Builds the slots that the student lists. `shared`: over one buffer with `marks` in it, at the student's offsets;
    else each slot gets memory of its own, so that a wrong offset shows in the other check only."""
    ram = inputs["ram"]
    value = student.target(ram, inputs["hole_start"], inputs["hole_end"])
    slots = [(int(gpa), int(size), int(offset)) for gpa, size, offset in value]
    buffer = anonymous_memory(ram)
    for offset, data in inputs["marks"]:
        buffer[offset : offset + len(data)] = data
    seen: Observed = {"value": [list(slot) for slot in slots[:EXITS]]}
    with a_machine(0) as machine:
        for gpa, size, offset in slots[:EXITS]:
            if inputs["shared"] and not 0 <= offset <= offset + size <= ram:
                seen["refused"] = f"bytes {offset:#x} to {offset + size - 1:#x} of a buffer of {ram:#x} bytes"
                return seen
            try:
                if size > LARGEST:
                    raise GuestMemoryError(f"a slot of {size:#x} bytes")
                backing = memoryview(buffer)[offset : offset + size] if inputs["shared"] else None
                machine.memory.add(gpa, size, backing=backing)
            except GuestMemoryError as error:
                seen["refused"] = str(error)
                return seen
        try:
            return {**seen, **run_guest(machine, inputs)}
        except ValueError as error:  # the guest's own page, or the GDT, lies outside the slots
            seen["refused"] = str(error)
            return seen


def slots_told_to_kvm(student: Student, inputs: Observed) -> Observed:
    """The student's function sets every slot of a VM, over buffers with room to spare; then the guest runs."""
    with a_machine(0) as machine:
        regions = hearing_regions()
        calls.use(regions)
        behind = []
        for number, gpa, size, room, flags, fill in inputs["slots"]:
            buffer = anonymous_memory(size + room)
            buffer[: len(fill)] = fill
            told, refused = len(regions.told), ""
            try:
                student.target(machine.vm.fd, number, gpa, buffer, size, flags)
            except KvmError as error:  # what KVM was told says more than its errno
                refused = str(error)
            behind += [(region, buffer) for region in regions.told[told:]]
            if refused:
                points = [region["userspace_addr"] == address_of(each) for region, each in behind]
                return {"regions": regions.told, "points": points, "refused": refused}
            adopt(machine, number, gpa, memoryview(buffer)[:size])
        points = [region["userspace_addr"] == address_of(each) for region, each in behind]
        seen = {"regions": regions.told, "points": points}
        if not all(lies_in(region, buffer) for region, buffer in behind):
            return seen | BEYOND
        return seen | run_guest(machine, inputs)


def lies_in(region: dict[str, int], buffer: Any) -> bool:
    """Whether the slot shows the guest nothing but the buffer; a guest on anything else would write over us."""
    start = region["userspace_addr"] - address_of(buffer)
    return 0 <= start <= start + region["memory_size"] <= len(buffer)


def find_addresses(student: Student, inputs: Observed) -> Observed:
    """What `find` says of each address. Where a guest is given, it runs first, and the bytes at each place come."""
    slots = [tuple(slot) for slot in inputs["slots"]]
    buffer = anonymous_memory(sum(size for _, size, _ in slots))
    seen: Observed = {}
    if "guest" in inputs:
        with a_machine(0) as machine:
            for gpa, size, offset in slots:
                machine.memory.add(gpa, size, backing=memoryview(buffer)[offset : offset + size])
            seen = run_guest(machine, inputs)
    found = [student.target(slots, gpa) for gpa in inputs["addresses"]]
    seen["found"] = [list(place) if isinstance(place, (tuple, list)) else place for place in found]
    seen["bytes"] = [bytes_at(buffer, place) for place in found]
    return seen


def bytes_at(buffer: Any, place: Any) -> bytes | None:
    """The four bytes where a student's (slot, offset) points to, None where it points nowhere."""
    pair = isinstance(place, (tuple, list)) and len(place) == 2
    if not pair or not isinstance(place[1], int) or not 0 <= place[1] <= len(buffer) - 4:
        return None
    return bytes(buffer[place[1] : place[1] + 4])


def registers_behind_mmio(student: Student, inputs: Observed) -> Observed:
    """Runs a guest whose MMIO exits the student serves from a bytearray."""
    registers = bytearray(inputs["registers"])
    with a_machine(RAM) as machine:
        machine.mmio = Served(machine, lambda page: student.target(page, registers, inputs["base"]))  # type: ignore[assignment]
        return {**run_guest(machine, inputs), "registers": bytes(registers[: 1 << 16])}


def writes_to_a_rom(student: Student, inputs: Observed) -> Observed:
    """Runs a guest that writes to a read-only slot and around it; `answers` are what the student's code said."""
    rom = range(inputs["rom_gpa"], inputs["rom_gpa"] + inputs["rom_size"])
    log: list[Any] = []
    answers: list[Any] = []

    def serve(page: RunPage) -> None:
        address, is_write = page.mmio.phys_addr, page.mmio.is_write
        answer = student.target(page, rom, log)
        answers.append([address, is_write, answer])
        if not is_write:
            page.mmio.data = [0xFF] * 8  # nobody else is there

    with a_machine(RAM) as machine:
        machine.memory.add(rom.start, len(rom), name="rom", read_only=True)
        machine.memory.write(rom.start, repeated(inputs["fill"], len(rom)))
        machine.mmio = Served(machine, serve)  # type: ignore[assignment]
        return {**run_guest(machine, inputs), "log": log[:EXITS], "answers": answers[:EXITS]}


def load_an_elf(student: Student, inputs: Observed) -> Observed:
    """Lets the student load an ELF file. `start`: "theirs" or "real" entry to run from, "" to run nothing."""
    from elftools.elf.elffile import ELFFile  # only the ELF checks pay for it

    elf = ELFFile(io.BytesIO(inputs["image"]))
    writes: list[Any] = []
    with a_machine(RAM) as machine:
        # A machine that was on before: no byte of its memory is zero by luck.
        machine.load(0, repeated(inputs["garbage"], 1 << 20))

        def write(gpa: int, data: Any) -> None:
            if inputs["start"]:
                machine.load(gpa, bytes(data))
            else:
                writes.append([gpa, bytes(data)[:CONSOLE]])
                del writes[EXITS:]

        value = student.target(elf, write)
        seen: Observed = {"value": value, "writes": writes}
        if inputs["start"]:
            machine.enter("long", elf["e_entry"] if inputs["start"] == "real" or type(value) is not int else value)
            seen |= run(machine)
        return seen


def touch_pages(machine: Machine, inputs: Observed) -> tuple[MemorySlot, Observed]:
    """Runs page-toucher over a slot that logs its dirty pages, behind some others that do too."""
    for number in range(inputs["others"]):
        machine.memory.add(0x1000_0000 + number * PAGE, PAGE, log_dirty=True)
    parameters = inputs["parameters"]
    slot = machine.memory.add(parameters["address"], parameters["size"], log_dirty=True)
    return slot, run_guest(machine, inputs)


def dirty_log_of_a_slot(student: Student, inputs: Observed) -> Observed:
    with a_machine(RAM) as machine:
        slot, seen = touch_pages(machine, inputs)
        return {**seen, "value": student.target(machine.vm.fd, slot.number, slot.size // PAGE)}


def pages_of_a_bitmap(student: Student, inputs: Observed) -> Observed:
    """The student decodes a bitmap: the one given, or the log that KVM kept of a guest."""
    bitmap = inputs.get("bitmap", b"")
    if not bitmap:
        with a_machine(RAM) as machine:
            slot, _ = touch_pages(machine, inputs)
            room = bytearray(-(-slot.size // PAGE // 64) * 8)
            log = struct("kvm_dirty_log", slot=slot.number)
            log.dirty_bitmap = ffi.from_buffer(room)
            machine.vm.ioctl(KVM_GET_DIRTY_LOG, log)
            bitmap = bytes(room)
    return {"value": student.target(bitmap, inputs["first_gpa"])}


def heat_of_a_guest(student: Student, inputs: Observed) -> Observed:
    """The student sets up memory and counts dirty pages while page-toucher runs once a round."""
    ends: list[Observed] = []
    with a_machine(0) as machine:
        regions = hearing_regions()
        calls.use(regions)

        def play(memory: Any, number: int) -> None:
            if not machine.memory.slots:
                adopt(machine, 0, 0, memoryview(memory)[: inputs["hole_start"]])
            if ends and ends[-1]["stop"] != "halted":
                return  # one guest that hangs is enough
            if not all(lies_in(region, memory) for region in regions.told):
                ends.append(BEYOND)
                return
            parameters = inputs["rounds"][number]
            seen = run_guest(machine, {"guest": inputs["guest"], "parameters": parameters})
            at = inputs["places"][number]
            ends.append({**seen, "found": [bytes(memory[place : place + 4]) for place in at]})

        hole = (inputs["hole_start"], inputs["hole_end"])
        value = student.target(machine.vm.fd, inputs["ram"], hole, play, len(inputs["rounds"]))
        counts = dict(value) if value is not None else value
        return {"value": counts, "ends": ends[:EXITS], "exits": ends[-1]["exits"] if ends else []}
