"""Lab 05, exits: strings at a port, and accesses to memory-mapped devices, aligned or not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from autograder.judge import fail, same_bytes
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import guest, on_console
from autograder.stages.lab05_common import LOOP, NOBODY, a_device, cycle, of, row_of_devices
from autograder.stages.lab05_models import Bus, mmio_walker
from autograder.stages.models import expected_console

IN, OUT = 0, 1
CANARY = 8  # bytes on either side of the data that must stay as they are

# ---- 05.6 serve_port ----


def an_exit(nonces: Nonces, label: str, direction: int, size: int, port: int, count: int) -> list[Any]:
    offset = 4096 + 16 * nonces.range(f"offset {label}", 1, 100)
    return [direction, size, port, count, offset, nonces.bytes(f"data {label}", size * count)]


def a_tape(nonces: Nonces, label: str, base: int, width: int) -> list[Any]:
    """At base + 40, so that a port which moves on soon leaves it."""
    return [base + 40, 8, width, nonces.bytes(f"text {label}", 300)]


def strings_out(nonces: Nonces) -> list[Case]:
    cases = []
    for run, size in enumerate((1, 2, 4)):
        base = nonces.range(f"base{run}", 0x500, 0x900)
        device, neighbour = (a_device(nonces, name, base + at, 8, 4) for name, at in (("lamp", 0), ("motor", 8)))
        slow = a_device(nonces, "slow card", base + 20, 4, 1)
        exits = [an_exit(nonces, f"{run}{n}", OUT, size, base + 4, count) for n, count in enumerate((1, 3, 7))]
        exits.append(an_exit(nonces, f"slow{run}", OUT, size, base + 20, 2))
        inputs: dict[str, Any] = {"devices": [device, neighbour, slow], "exits": exits}
        inputs |= {"tape": a_tape(nonces, str(run), base, 4), "canary": bytes([nonces.range(f"canary{run}", 1, 255)])}
        cases.append(Case(inputs, None, f"OUTs of {size}, up to 7 items in an exit"))
    return cases


def items(case_exit: list[Any]) -> list[int]:
    _, size, _, count, _, data = case_exit
    return [int.from_bytes(data[at : at + size], "little") for at in range(0, size * count, size)]


def logs(obs: Observation, place: int) -> list[Any]:
    """The cycles of one exit."""
    seen = obs.list("logs")
    return seen[place] if place < len(seen) and isinstance(seen[place], list) else []


def sent(case: Case, obs: Observation) -> Finding:
    bus = Bus(case.inputs["devices"])
    for number, each in enumerate(case.inputs["exits"]):
        _, size, port, count, _, _ = each
        values, seen, done = items(each), logs(obs, number), 0
        words = f"{of(count, 'item')} of {of(size, 'byte')} for port {port:#x}"
        for place, value in enumerate(values):
            start = len(bus.log)
            bus.write(port, size, value)
            for right in bus.log[start:]:
                actual = seen[done] if done < len(seen) else None
                done += 1
                if actual != right:
                    got = cycle(actual) if actual is not None else "nothing more"
                    message = f"{words}, item {place}: {got}, where the right one is {cycle(right)}"
                    return fail(message, wrong_item(actual, right, values, place))
        if len(seen) != done:
            return fail(f"{words}: {len(seen)} cycles where {done} are expected", "items")
    return OK


def wrong_item(actual: object, right: list[Any], values: list[int], place: int) -> str:
    """The key of the hint for an item that went astray."""
    if not (isinstance(actual, list) and len(actual) == 5):
        return "one" if place else "items"
    if actual[1] != right[1]:
        return "direction"
    if (actual[0], actual[2]) != (right[0], right[2]):
        return "port" if place else "items"
    if actual[3] != right[3]:
        return "items"
    if place and actual[4] == values[0]:
        return "replay"
    if place == 0 < len(values) - 1 and actual[4] == values[-1]:
        return "order"
    swapped = int.from_bytes(right[4].to_bytes(right[3], "little"), "big")
    return "endian" if actual[4] == swapped and swapped != right[4] else "offset"


def strings_in(nonces: Nonces) -> list[Case]:
    cases = []
    for run, size in enumerate((1, 2, 4)):
        base = nonces.range(f"base{run}", 0x500, 0x900)
        exits = [an_exit(nonces, f"{run}{n}", IN, size, base + 40, count) for n, count in enumerate((1, 4, 9))]
        for each in exits:
            each[5] = b""
        devices = row_of_devices(nonces, base)
        inputs: dict[str, Any] = {"devices": devices, "exits": exits}
        inputs |= {
            "tape": a_tape(nonces, str(run), base, size),
            "canary": bytes([nonces.range(f"canary{run}", 1, 255)]),
        }
        cases.append(Case(inputs, None, f"INs of {size}, up to 9 items in an exit"))
    for width in (1, 2, 4):
        parameters = {"nonce": nonces.u64(f"nonce{width}"), "width": width, "count": nonces.range(f"n{width}", 9, 30)}
        contents = nonces.bytes(f"contents{width}", 150)
        inputs = {"contents": contents} | guest("string-echo", port=0x500, **parameters)
        wanted = expected_console("string-echo", parameters, received=contents)
        cases.append(Case(inputs, wanted, f"a guest that echoes strings of {width}-byte items"))
    return cases


def received(case: Case, obs: Observation) -> Finding:
    if "guest" in case.inputs:
        return same_bytes(case.expected, obs.bytes("console"), "what the guest sent back", "guest")
    areas, text, canary = obs.list("areas"), case.inputs["tape"][3], case.inputs["canary"]
    for place, (_, size, port, count, _, _) in enumerate(case.inputs["exits"]):
        ahead = text
        wanted, text = text[: size * count], text[size * count :]
        area = areas[place] if place < len(areas) else b""
        if not isinstance(area, bytes):
            return fail(f"{describe(area)} where bytes are expected")
        before, data, after = area[:CANARY], area[CANARY : CANARY + size * count], area[CANARY + size * count :]
        words = f"{of(count, 'item')} of {of(size, 'byte')} from port {port:#x}: the page's data"
        if not (finding := same_bytes(wanted, data, words, wrong_data(wanted, data, size, canary, ahead))).ok:
            return finding
        if before + after != canary * (2 * CANARY):
            return fail(f"{words} is right, and bytes beside it have changed", "beside")
    return OK


def wrong_data(wanted: bytes, data: bytes, size: int, canary: bytes, ahead: bytes) -> str:
    """The key of the hint for a page that was filled wrongly, from a tape with `ahead` on it."""
    if data == canary * len(data):
        return "nothing"
    first, rest = data[:size], data[size:]
    if first == wanted[:size][::-1] != first[::-1]:
        return "endian"
    if rest and rest == canary * len(rest):
        return "one" if first == wanted[:size] else "offset"
    if size > 1 and data == ahead[::size][: len(data)]:
        return "bytes"
    if rest and data == b"".join(wanted[at : at + size] for at in reversed(range(0, len(wanted), size))):
        return "order"
    if data == first * (len(data) // size):
        return "replay"
    return "port" if rest.endswith(b"\xff" * size) else "offset"


# ---- 05.7 serve_mmio ----


def memory_exits(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(2):
        base = 0xC000_0000 + 0x1000 * nonces.range(f"base{run}", 0, 0xFFFF)
        devices = [a_device(nonces, name, base + at, 32, width) for name, at, width in
                   (("screen", 0, 8), ("card", 32, 4), ("old card", 80, 1))]  # fmt: skip
        exits = []
        for n, length in enumerate((2, 1, 4, 8, 7, 3, 5, 6, 1, 2, 4, 8)):
            # First a read and a write that a device takes: they say most of what went wrong. The last may be nobody's.
            at = base + nonces.range(f"at{run}{n}", 0, 64 - length if n < 8 else 100)
            is_write = n if n < 2 else nonces.range(f"write{run}{n}", 0, 2)
            exits.append([is_write, at, length, nonces.bytes(f"data{run}{n}", 8)])
        inputs = {"devices": devices, "exits": exits}
        cases.append(Case(inputs, None, f"exits of 1 to 8 bytes, list {run + 1} of 2"))
    return cases


def memory_served(case: Case, obs: Observation) -> Finding:
    bus, answers = Bus(case.inputs["devices"]), obs.list("answers")
    for place, (is_write, address, length, data) in enumerate(case.inputs["exits"]):
        words = f"a {'write' if is_write else 'read'} of {of(length, 'byte')} at {address:#x}"
        start, seen = len(bus.log), logs(obs, place)
        if is_write:
            bus.write(address, length, int.from_bytes(data[:length], "little"))
        wanted = None if is_write else bus.read(address, length).to_bytes(length, "little")
        for done, right in enumerate(bus.log[start:]):
            actual = seen[done] if done < len(seen) else None
            if actual != right:
                got = cycle(actual) if actual is not None else "nothing"
                return fail(f"{words}: {got}, where the right one is {cycle(right)}", wrong_cycle(actual, right))
        if len(seen) > len(bus.log) - start:
            return fail(f"{words}: {len(seen)} cycles where {len(bus.log) - start} are expected", "length")
        answer = answers[place] if place < len(answers) else None
        if wanted is not None and isinstance(answer, bytes) and answer[:length] != wanted:
            at_the_end = answer[-length:] in (wanted, wanted[::-1]) and length < 8
            key = "unanswered" if answer == data else "padded" if at_the_end else "endian"
            return same_bytes(wanted, answer[:length], f"{words}: `mmio.data`", key)
        if wanted is not None and not isinstance(answer, bytes):
            return fail(f"{words}: no answer", "unanswered")
    return OK


def wrong_cycle(actual: object, right: list[Any]) -> str:
    if not (isinstance(actual, list) and len(actual) == 5):
        return "unserved"
    if actual[1] != right[1]:
        return "direction"
    if actual[:3] == right[:3] and actual[3] == 1 < right[3]:
        return "whole"
    if actual[:4] != right[:4]:
        return "length"
    return "endian"


def walks(nonces: Nonces) -> list[Case]:
    cases = []
    for run, (left, right) in enumerate(((8, 4), (1, 8), (4, 2))):
        page = 0xC000_0000 + 0x1000 * nonces.range(f"page{run}", 1, 0xFFFF)
        devices = [a_device(nonces, "left", page - 24, 24, left), a_device(nonces, "right", page, 20, right)]
        parameters = {"nonce": nonces.u64(f"nonce{run}"), "address": page - 8, "size": 12, "count": 60}
        cases.append(Case({"devices": devices} | guest("mmio-walker", **parameters), None,
                          f"devices on both sides of a page boundary, run {run + 1} of 3"))  # fmt: skip
    return cases


def walked(case: Case, obs: Observation) -> Finding:
    bus, parameters = Bus(case.inputs["devices"]), case.inputs["parameters"]
    wanted = mmio_walker(SimpleNamespace(**parameters), bus=bus)
    if not (finding := on_console(obs, wanted, "guest")).ok:
        return finding
    held = obs.dict("bytes")
    for name, right in bus.bytes.items():
        finding = same_bytes(bytes(right), held.get(name), f"the device on the {name}, in the end", "guest")
        if not finding.ok:
            return finding
    return OK


NUMBER = Hint("fit", "A value doesn't fit into so many bytes: `read` and `to_bytes` want the same size, the exit's.",
              when="OverflowError|too big|to convert")  # fmt: skip
PIECE = Hint("piece", "A piece of the page is bytes, and your bus writes numbers: `int.from_bytes(…, \"little\")`.",
             when="memoryview. and .int|bytes. and .int")  # fmt: skip
SLICES = Hint("slice", "What is assigned to a slice of the page must be just as long: `size` bytes an item.",
              when="different structures|memoryview assignment|different size|bytes-like object")  # fmt: skip
PAGE = Hint("page", "The items are not in `run.io`: they lie in `run.page`, from `io.data_offset` on.", when="no field")
COPY = Hint("copy", "`data` is an array of C: `bytes(mmio.data)` makes bytes of it, and `int.from_bytes` a number of "
            "those. (A slice of the array itself needs both ends: `mmio.data[0:n]`.)",
            when="slice start|slice stop|_CData|cannot convert")  # fmt: skip

CHECKS = (
    Check(
        "05.6", "every item out, all to one port", 1,
        exercise="serve_port", driver="port_exits", cases=strings_out, judge=sent,
        hints=(
            Hint("items", "Each item is one `write` of `io.size` bytes to `io.port`, in the order of the page."),
            Hint("one", "The exit has `count` items. The classic mistake serves the first."),
            Hint("port", "The port moved on with the data. In a string instruction only the address in memory moves: "
                 "the port is the same for all. (Intel SDM vol. 2, OUTS)"),
            Hint("replay", "The same item again and again: item n lies `n * size` bytes behind `data_offset`."),
            Hint("offset", "The data begins at `run.page[io.data_offset]`, and each item has `io.size` bytes."),
            Hint("order", "The items are sent in the order of the page: the first of them lies at `data_offset`."),
            Hint("endian", "The lowest byte comes first: `int.from_bytes(…, \"little\")`."),
            PAGE,
            Hint("direction", "`io.direction` is KVM_EXIT_IO_OUT (1) where the guest writes, KVM_EXIT_IO_IN (0) where "
                 "it reads."),
            PIECE, NUMBER, SLICES, NOBODY, LOOP,
        ),
    ),
    Check(
        "05.6b", "every item in, each read anew", 1,
        exercise="serve_port", driver="port_exits", cases=strings_in, judge=received, guests=("string-echo",),
        hints=(
            Hint("nothing", "The guest reads what lies in the page when it goes on: put the answer there."),
            Hint("one", "The exit asks for `count` items. The classic mistake answers the first."),
            Hint("port", "The port moved on with the data, and left the device. It stays: only the place in the page "
                 "moves. (Intel SDM vol. 2, INS) One wide read for all items goes over the neighbours, too."),
            Hint("bytes", "Each item is one `read` of `io.size` bytes. Read byte by byte, a device gives a new item "
                 "each time."),
            Hint("order", "The first item that is read belongs to `data_offset`, the next one behind it."),
            Hint("replay", "Each item is a read of its own. The classic mistake reads once and copies."),
            Hint("offset", "Item n belongs to `data_offset + n * size`, and has `size` bytes."),
            Hint("endian", "The lowest byte comes first: `.to_bytes(io.size, \"little\")`."),
            Hint("beside", "Only `size * count` bytes belong to the answer: others lie beside them."),
            PAGE,
            Hint("guest", "By hand all was well, and a guest's string was not. Is anything left over from one exit to "
                 "the next?"),
            NUMBER, SLICES, NOBODY, LOOP,
        ),
    ),
    Check(
        "05.7", "an access of any length", 1,
        exercise="serve_mmio", driver="memory_exits", cases=memory_exits, judge=memory_served,
        hints=(
            Hint("length", "Only `mmio.len` of the eight bytes in `data` count; the others are left over. The classic "
                 "mistake takes all eight."),
            Hint("direction", "`mmio.is_write` is 1 where the guest writes."),
            Hint("whole", "Leave the cutting to your bus: each exit is one `read` or `write` of `mmio.len` bytes. A "
                 "device that takes more than a byte at once should get it so."),
            Hint("unserved", "Each exit is one `read` or `write` of `mmio.len` bytes at `mmio.phys_addr`."),
            Hint("endian", "The lowest byte comes first, both ways: \"little\"."),
            Hint("unanswered", "The guest reads what lies in `mmio.data` when it goes on: put the answer there."),
            Hint("padded", "The answer belongs to the *first* `len` bytes of `data`, the lowest byte first."),
            Hint("data", "`mmio.data` takes eight bytes, as bytes or as a list of numbers.",
                 when="initializer|initialize"),
            COPY, NUMBER, NOBODY, LOOP,
        ),
    ),
    Check(
        "05.7b", "over a page boundary, from device to device", 1,
        exercise="serve_mmio", driver="memory_exits", cases=walks, judge=walked, guests=("mmio-walker",),
        hints=(
            Hint("guest", "An access over a page boundary is two exits: 8 bytes may come as 1 and 7, or 3 and 5. Each "
                 "is an access like any other, of `len` bytes. (See 05.7.)"),
            Hint("data", "`mmio.data` takes eight bytes, as bytes or as a list of numbers.",
                 when="initializer|initialize"),
            COPY, NUMBER, NOBODY, LOOP,
        ),
    ),
)  # fmt: skip
