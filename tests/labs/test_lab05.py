"""What is special about lab 05: its guests run on every backend, its answers agree with the library, and other right
answers are right."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from math import ceil
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.drivers.lab05_parts import PARTS
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages import lab05_access, lab05_claims, lab05_cost, lab05_exits, lab05_models, lab05_ring
from autograder.stages.lab05 import LAB
from autograder.stages.models import expected_console
from minivmm import resources
from minivmm.bus import Bus as LibraryBus
from minivmm.kvm import KVM_COALESCED_MMIO_MAX as SLOTS
from minivmm.kvm import KVM_EXIT_HLT, KVM_EXIT_IO
from minivmm.kvm.seam import Backend
from minivmm.lab05 import Bench, Mixer, Registers, Tape, empty_ring

SOURCE = (resources.folder("solutions") / "lab05.py").read_text(encoding="utf-8")

# ---- the checks ----


def test_who_always_says_the_same_loses_the_bells():
    (check,) = (each for each in LAB.checks if each.id == "05.17")
    for answer in (True, False, 1, 0, None):
        found = [
            check.judge(case, Observation({"values": [answer]}, "rings")).ok
            for case in check.cases(Nonces(1, "05", "05.17"))
        ]
        assert not all(found)


def test_the_lab_is_worth_twenty_points_on_guests_of_its_own():
    assert LAB.max_score == 20
    assert sum(check.points == 0 for check in LAB.checks) == 5
    used = {name for check in LAB.checks for name in check.guests}
    assert used == {"bus-prober", "string-echo", "mmio-walker", "mixer", "postman"}


@pytest.mark.parametrize("seed", range(20))
def test_accesses_are_cut_and_whole_whatever_the_seed(seed):
    for cases in (lab05_access.owned_reads, lab05_access.lonely_reads, lab05_access.written, lab05_claims.borders):
        for case in cases(Nonces(seed, "05", "any")):
            bus = lab05_models.Bus(case.inputs["devices"])
            accesses = case.inputs.get("accesses") or list(
                lab05_models.prober_accesses(SimpleNamespace(**case.inputs["parameters"]))
            )
            lengths = Counter(len(bus.cycles(*access[:2])) > 1 for access in accesses)
            assert lengths[True] >= 3
            assert lengths[False] >= 3


@pytest.mark.parametrize("seed", range(20))
def test_walks_cross_the_page_boundary_in_both_directions(seed):
    over = Counter()
    for case in lab05_exits.walks(Nonces(seed, "05", "05.7b")):
        accesses = list(lab05_models.walker_accesses(SimpleNamespace(**case.inputs["parameters"])))
        over.update(value is None for at, size, value in accesses if at >> 12 != at + size - 1 >> 12)
    assert over[True] >= 3
    assert over[False] >= 3


@pytest.mark.parametrize("seed", range(20))
def test_the_frequent_is_not_the_dear(seed):
    """Who sorts by the count is found out."""
    for case in lab05_cost.samples(Nonces(seed, "05", "05.9")):
        assert case.expected != sorted(case.expected, key=lambda row: -row[2])


@pytest.mark.parametrize("seed", range(20))
def test_some_ranks_are_missed_by_fractions(seed):
    *_, last = lab05_cost.percentiles(Nonces(seed, "05", "05.8"))
    for (values, percent), right in zip(last.inputs["calls"], last.expected, strict=True):
        assert sorted(values)[ceil(percent / 100 * len(values)) - 1] != right


@pytest.mark.parametrize("seed", range(20))
def test_writes_wait_before_every_kind_of_exit(seed):
    steps = lab05_ring.script(Nonces(seed, "05", "05.12")).inputs["steps"]
    assert sorted(kind for entries, kind, *_ in steps if entries) == ["hlt", "in", "out", "read", "write"]
    assert steps[-1][1] == "hlt"


# ---- the guests ----

DEVICES = [["a", 0x502, 3, 1, b"abc"], ["b", 0x505, 4, 2, b"defg"], ["c", 0x50C, 4, 4, b"hijk"]]
NONCES = (0, 0x0123_4567_89AB_CDEF, 0xFEDC_BA98_8000_0001, (1 << 64) - 1)
each_nonce = pytest.mark.parametrize("nonce", NONCES, ids=hex)


def registers(devices: list[list[Any]]) -> list[Registers]:
    return [Registers(name, range(first, first + count), width, data) for name, first, count, width, data in devices]


@each_nonce
def test_bus_prober_does_what_its_model_says(backend: Backend, nonce):
    parameters = {"nonce": nonce, "count": 60, "address": 0x500, "size": 18}
    bench = Bench(PARTS, "bus-prober", backend=backend, ports=registers(DEVICES), **parameters)
    model = lab05_models.Bus(DEVICES)
    assert bench.play().encode() == expected_console("bus-prober", parameters, bus=model)
    assert bench.ports.unclaimed == model.unclaimed


@each_nonce
def test_mmio_walker_does_what_its_model_says(backend: Backend, nonce):
    devices = [["left", 0xC000_0FE0, 32, 8, bytes(range(32))], ["right", 0xC000_1000, 20, 2, bytes(range(20))]]
    parameters = {"nonce": nonce, "count": 60, "address": 0xC000_0FE8, "size": 40}
    bench = Bench(PARTS, "mmio-walker", backend=backend, mmio=registers(devices), **parameters)
    assert bench.play().encode() == expected_console("mmio-walker", parameters, devices=devices)


@each_nonce
@pytest.mark.parametrize("width", [1, 2, 4])
def test_string_echo_does_what_its_model_says(backend: Backend, nonce, width):
    tape = Tape("tape", range(0x500, 0x510), width, bytes(range(100)))
    parameters = {"nonce": nonce, "width": width, "count": 30}
    bench = Bench(PARTS, "string-echo", backend=backend, ports=[tape], **parameters)
    bench.play()
    assert bytes(tape.written) == expected_console("string-echo", parameters, received=bytes(range(100)))
    assert sum(kind == "in" for kind, _, _ in bench.samples) == 1


@each_nonce
def test_out_loop_prints_the_same_with_exits_and_without(backend: Backend, nonce):
    exits = []
    for option in (0, 1):
        bench = Bench(PARTS, "out-loop", backend=backend, nonce=nonce, count=50, option=option)
        assert bench.play().encode() == expected_console("out-loop", {"nonce": nonce, "count": 50})
        exits.append(bench.exits["KVM_EXIT_IO"])
    assert exits[1] == exits[0] + 50


def a_loop(go: Any, run: Any, ring: Any, ports: Any, mmio: Any) -> None:
    while True:
        go()
        PARTS["drain"](ring, ports, mmio)
        if run.exit_reason == KVM_EXIT_HLT:
            return
        name, bus = ("serve_port", ports) if run.exit_reason == KVM_EXIT_IO else ("serve_mmio", mmio)
        PARTS[name](bus, run)


@each_nonce
@pytest.mark.parametrize("native", [True, False])
def test_mixer_does_what_its_model_says_with_any_ring(backend: Backend, nonce, native):
    """KVM's own ring and the one that the bench plays make the same exits."""
    mixer = Mixer(0xD000_0000, 0x600)
    zones: Any = {"zones": [range(0xD000_0000, 0xD000_0004)], "port_zones": [range(0x600, 0x604)]}
    devices: Any = {"ports": [mixer.port], "mmio": [mixer.memory_mapped], "backend": backend, "native": native}
    parameters = {"nonce": nonce, "count": 3, "size": 400}
    bench = Bench(PARTS | {"work": a_loop}, "mixer", **devices, **zones, **parameters)
    assert bench.work().encode() == expected_console("mixer", parameters)
    assert mixer.taken == 1600
    assert sum(bench.exits.values()) - 3 * 10 - 1 == 1600 // SLOTS - 1  # printing, HLT; the rest: a full ring


@each_nonce
def test_postman_sends_the_same_letters_either_way(backend: Backend, nonce):
    parameters = {"nonce": nonce, "count": 130, "size": 40}
    wanted = expected_console("postman", parameters)
    plain = Bench(PARTS, "postman", backend=backend, **parameters)
    assert plain.play().encode() == wanted
    sent: list[bytes] = []
    bench = Bench(PARTS, "postman", backend=backend, **parameters)
    PARTS["attach"](bench.ports, ANSWERS["Postbox"](0x700, bench.memory, sent.append))
    assert bench.play() == ""
    assert sent == [wanted[:40], wanted[40:80], wanted[80:120], wanted[120:]]
    assert bench.exits.total() == 7  # the look, the buffer, four rings, HLT


def test_a_ring_that_is_played_has_room_for_169_writes():
    assert SLOTS == 170
    ring, push = empty_ring(), ANSWERS["push"]
    assert [push(ring, 0x500, b"x", 1) for _ in range(SLOTS)] == [True] * (SLOTS - 1) + [False]


# ---- the answers ----


def answers() -> dict[str, Any]:
    """What the solution defines in its tasks, and its class `Bus`."""
    names: dict[str, Any] = {"dataclass": dataclass, "field": field}
    exec("from bisect import bisect_right\nfrom collections import Counter\nfrom minivmm.lab import *", names)
    cells = re.split(r"^# %%", SOURCE, flags=re.MULTILINE)
    wanted = [cell for cell in cells if re.match(r' exercise="05\.\d+"', cell)]
    wanted += ["\n@dataclass\nclass Bus:" + SOURCE.partition("class Bus:")[2].partition("\n\n\n")[0]]
    exec(f"SLOTS = {SLOTS}\n" + "\n".join("#" + cell for cell in wanted), names)
    return names


ANSWERS = answers()
CLAIMS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=8)


@settings(max_examples=200, deadline=None)
@given(CLAIMS)
def test_the_solution_attaches_what_the_library_does_and_finds_the_same(claims):
    ours, library = ANSWERS["Bus"](), LibraryBus("port")
    for number, (first, count) in enumerate(claims):
        device = Registers(str(number), range(first, first + count))
        outcomes = []
        for attach in (lambda device: ANSWERS["attach"](ours, device), library.attach):
            try:
                attach(device)
                outcomes.append("attached")
            except ValueError:
                outcomes.append("refused")
        assert outcomes[0] == outcomes[1]
    assert [each.name for each in ours.devices] == [each.name for each in library.devices]
    for address in range(80):
        assert ANSWERS["find"](ours, address) is library.device_at(address)


@settings(max_examples=200, deadline=None)
@given(CLAIMS, st.integers(0, 64), st.sampled_from([1, 2, 4, 8]), st.integers(0, (1 << 64) - 1))
def test_a_write_can_be_read_again_where_somebody_is(claims, address, size, value):
    bus = ANSWERS["Bus"]()
    for number, (first, count) in enumerate(claims):
        try:
            ANSWERS["attach"](bus, Registers(str(number), range(first, first + count), width=1 << number % 4))
        except ValueError:
            continue
    value &= (1 << 8 * size) - 1
    ANSWERS["write"](bus, address, size, value)
    found = ANSWERS["read"](bus, address, size)
    for n in range(size):
        wanted = value >> 8 * n & 0xFF if ANSWERS["find"](bus, address + n) else 0xFF
        assert found >> 8 * n & 0xFF == wanted


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40), st.integers(1, 100))
def test_a_percentile_is_the_smallest_that_enough_values_do_not_exceed(values, percent):
    found = ANSWERS["percentile"](values, percent)
    enough = [each for each in values if 100 * sum(other <= each for other in values) >= percent * len(values)]
    assert found == min(enough)


OTHER_ANSWERS = {
    "insort for the order": (
        "    bus.devices.append(device)\n    bus.devices.sort(key=lambda each: each.claim.start)\n",
        "    from bisect import insort\n    insort(bus.devices, device, key=lambda each: each.claim.start)\n",
    ),
    "a new list at each attach": (
        "    bus.devices.append(device)\n    bus.devices.sort(key=lambda each: each.claim.start)\n",
        "    bus.devices = sorted([*bus.devices, device], key=lambda each: each.claim.start)\n",
    ),
    "max and min of two ranges": (
        "        if device.claim.start < other.claim.stop and other.claim.start < device.claim.stop:\n",
        "        if max(device.claim.start, other.claim.start) < min(device.claim.stop, other.claim.stop):\n",
    ),
    "bisection by hand": (
        "    place = bisect_right(bus.devices, address, key=lambda each: each.claim.start) - 1\n    if place >= 0",
        "    low, high = 0, len(bus.devices)\n    while low < high:\n        middle = (low + high) // 2\n"
        "        if bus.devices[middle].claim.start <= address:\n            low = middle + 1\n"
        "        else:\n            high = middle\n    place = low - 1\n    if place >= 0",
    ),
    "lists for cycles": ("        return [(address, size)]\n", "        return [[address, size]]\n"),
    "a loop for cycles": (
        "    first = 1 << (size - 1).bit_length() - 1\n    return",
        "    first = 1\n    while 2 * first < size:\n        first *= 2\n    return",
    ),
    "sums in place of ors": (
        "        value |= part << 8 * (at - address)\n",
        "        value += part << 8 * (at - address)\n",
    ),
    "a write by pieces of its bytes": (
        "            part = value >> 8 * (at - address) & (1 << 8 * length) - 1\n",
        "            part = int.from_bytes(value.to_bytes(size, \"little\")[at - address :][:length], \"little\")\n",
    ),
    "a string by its items": (
        "    for at in range(io.data_offset, io.data_offset + io.size * io.count, io.size):\n",
        "    for n in range(io.count):\n        at = io.data_offset + n * io.size\n",
    ),
    "an answer byte by byte": (
        '        mmio.data = read(bus, mmio.phys_addr, mmio.len).to_bytes(8, "little")',
        '        for n, each in enumerate(read(bus, mmio.phys_addr, mmio.len).to_bytes(mmio.len, "little")):\n'
        "            mmio.data[n] = each",
    ),
    "ceil for the rank": (
        "    rank = -(-percent * len(values) // 100)\n",
        "    from fractions import Fraction\n    from math import ceil\n"
        "    rank = ceil(Fraction(percent * len(values), 100))\n",
    ),
    "the definition of a percentile": (
        "    return sorted(values)[rank - 1]\n",
        "    return min(each for each in values if sum(other <= each for other in values) >= rank)\n",
    ),
    "a price in whole ns": (
        "    return (min(loud) - min(quiet)) / rounds\n",
        "    return round((min(loud) - min(quiet)) / rounds)\n",
    ),
    "the slot first, the write after": (
        "        write(ports if entry.pio else mmio, entry.phys_addr, entry.len, value)\n"
        "        ring.first = (ring.first + 1) % SLOTS\n",
        "        bus, at, size = (ports if entry.pio else mmio), entry.phys_addr, entry.len\n"
        "        ring.first = 0 if ring.first == SLOTS - 1 else ring.first + 1\n        write(bus, at, size, value)\n",
    ),
    "match for the loop": (
        "        if run.exit_reason == KVM_EXIT_HLT:\n            return\n        if run.exit_reason == KVM_EXIT_IO:\n",
        "        reason = run.exit_reason\n        if reason == KVM_EXIT_HLT:\n            break\n"
        "        elif reason == KVM_EXIT_IO:\n",
    ),
    "a stranger by its name": (
        '            raise RuntimeError(f"nobody handles exit reason {run.exit_reason}")\n',
        '            raise RuntimeError(f"nobody handles {decode(run).name}")\n',
    ),
    "a stranger in hexadecimal": (
        '            raise RuntimeError(f"nobody handles exit reason {run.exit_reason}")\n',
        '            raise RuntimeError(f"exit {run.exit_reason:#x}")\n',
    ),
    "a refusal that sends nothing at all": (
        "            self.send(bytes(self.memory[self.buffer : self.buffer + self.sent]))\n",
        "            if self.sent:\n"
        "                self.send(bytearray(self.memory[self.buffer : self.buffer + self.sent]))\n",
    ),
    "routes forgotten by a new dictionary": (
        "        attach(self.bus, device)\n        self.known.clear()\n",
        "        attach(self.bus, device)\n        self.known = {}\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", OTHER_ANSWERS.values(), ids=list(OTHER_ANSWERS))
def test_another_right_answer_has_full_marks(change, marks_lost):
    assert marks_lost("05", change) == []
