"""Lab 02, task 6: page tables that map the first GiB to itself."""

from __future__ import annotations

import struct

from autograder import judge
from autograder.model import OK, Case, Finding
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages import models
from autograder.stages.lab02_common import image, ran

PRESENT, WRITABLE, LARGE = 1, 2, 0x80
ADDRESS = 0x000F_FFFF_FFFF_F000


def places(nonces: Nonces) -> list[Case]:
    return [Case({"where": nonces.range(f"w{n}", 0x80, 0x4000) << 12}, label="tables somewhere else") for n in range(2)]


def maps_itself(case: Case, obs: Observation) -> Finding:
    where, cr3 = case.inputs["where"], obs.int()
    for key, why in (("outside", f"outside the three pages from {where:#x}"), ("misaligned", "inside another entry")):
        for place in obs.ints(key)[:1]:
            return judge.fail(f"an entry was written to {place:#x}, {why}", "eight-bytes")
    if cr3 != where:
        return judge.fail(f"it returned {cr3:#x}; CR3 wants the address of the top table, {where:#x}", "cr3")
    return walks(obs.bytes("tables"), where)


def walks(tables: bytes, where: int) -> Finding:
    """The 4-level walk over three table pages, entry by entry, with the first fault named."""
    if len(tables) != 3 * 4096:
        return judge.fail("the tables are not three pages", "eight-bytes")
    entries = struct.unpack("<1536Q", tables)
    for name, at, below in (("PML4 entry 0", 0, where + 0x1000), ("PDPT entry 0", 512, where + 0x2000)):
        entry = entries[at]
        if not entry & PRESENT:
            return judge.fail(f"{name} is {entry:#x}: not present, so nothing is mapped", "present")
        if entry & ADDRESS != below:
            return judge.fail(
                f"{name} is {entry:#x}: it points to {entry & ADDRESS:#x}, not to {below:#x}", "eight-bytes"
            )
        if entry & LARGE:
            return judge.fail(f"{name} is {entry:#x}: bit 7 (PS) is set, but a table lies below it", "large")
        if not entry & WRITABLE:
            return judge.fail(f"{name} is {entry:#x}: it grants no writing, whatever the entries below say", "writable")
    for index, entry in enumerate(entries[1024:]):
        right = index << 21 | PRESENT | WRITABLE | LARGE
        if entry & (ADDRESS | PRESENT | WRITABLE | LARGE) != right:
            hint = "step"
            if not entry:
                hint = "eight-bytes"
            elif entry & ADDRESS == index << 21:
                hint = "large" if not entry & LARGE else "present" if not entry & PRESENT else "writable"
            return judge.fail(f"page directory entry {index} is {entry:#x} where {right:#x} is expected", hint)
    return OK


def sums(nonces: Nonces) -> list[Case]:
    cases = []
    for n in range(2):
        nonce, size = nonces.u64(f"nonce{n}"), nonces.range(f"size{n}", 64, 400)
        # Across the border of two large pages, so that two entries have to be right.
        address = (nonces.range(f"page{n}", 2, 30) << 21) - nonces.range(f"before{n}", 8, 60)
        where, data = nonces.range(f"where{n}", 0x90, 0xF0) << 12, nonces.bytes(f"data{n}", size)
        parameters = {"nonce": nonce, "address": address, "size": size}
        inputs = {
            "image": image("checksum-long", **parameters),
            "plant": [[address, data]],
            "where": where,
            "memory": 64 << 20,
        }
        printed = models.expected_console("checksum-long", parameters, data=data)
        cases.append(Case(inputs, printed, f"{size} bytes at {address:#x}"))
    return cases


def summed(case: Case, obs: Observation) -> Finding:
    if obs.int() != case.inputs["where"]:
        return judge.fail(f"it returned {obs.int():#x}; CR3 wants {case.inputs['where']:#x}, the top table", "cr3")
    return ran(case.expected, obs, "step" if "console" in obs and obs.bytes("console") else "large")
