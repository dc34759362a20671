"""Lab 05, claims: what may be attached, who is at an address, and the cycles of an access."""

from __future__ import annotations

from typing import Any

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.lab05_common import LOOP, NAMES, a_device, number, of, row_of_devices
from autograder.stages.lab05_models import Bus

Claim = list[Any]  # name, first address, how many

# ---- 05.1 attach ----


def fits(nonces: Nonces) -> list[Case]:
    """Devices side by side and apart, in another order than their addresses."""
    cases = []
    for run in range(3):
        at = nonces.range(f"at{run}", 0, 0x200)
        claims: list[Claim] = []
        for place, name in enumerate(NAMES):
            count = nonces.range(f"count{run}{place}", 1, 9)
            claims.append([name, at, count])
            at += count + nonces.choice(f"gap{run}{place}", (0, 0, 5))
        first, second, *rest = claims
        mixed = [second, first, *sorted(rest, key=lambda claim: nonces.u64(f"order{run}{claim[0]}"))]
        cases.append(Case({"claims": mixed}, in_order(mixed), f"{len(mixed)} devices, each on addresses of its own"))
    return cases


def in_order(claims: list[Claim]) -> list[list[str]]:
    """The names on the bus after each step, where all goes well."""
    return [[name for name, *_ in sorted(claims[: n + 1], key=lambda claim: claim[1])] for n in range(len(claims))]


def places(claim: Claim) -> str:
    name, first, count = claim
    return f"{name} at range({first:#x}, {first + count:#x})"


def steps(obs: Observation) -> list[dict[str, Any]]:
    return [each for each in obs.list("steps") if isinstance(each, dict)]


def attached(case: Case, obs: Observation) -> Finding:
    claims, seen = case.inputs["claims"], steps(obs)
    for place, wanted in enumerate(case.expected):
        step = seen[place] if place < len(seen) else {}
        if step.get("raised") != "":
            before = ", ".join(places(each) for each in claims[:place]) or "nobody"
            said = f"{step.get('raised')}: {step.get('said')}"
            hint = "neighbour" if step.get("raised") == "ValueError" else "order"
            return fail(f"{places(claims[place])} was refused ({said}). On the bus: {before}", hint)
        names = step.get("names")
        if names == wanted:
            continue
        shown = ", ".join(map(str, names)) if isinstance(names, list) else describe(names)
        lost = not isinstance(names, list) or sorted(map(str, names)) != sorted(wanted)
        message = f"after {places(claims[place])} the bus has: {shown or 'nobody'}; expected: {', '.join(wanted)}"
        return fail(message, "lost" if lost else "order")
    return OK


SHAPES = {
    "same": "another has just the same claim",
    "left": "it ends inside another's claim",
    "right": "it begins inside another's claim",
    "inside": "it lies inside another's claim",
    "around": "another's claim lies inside it",
    "empty": "it claims no address at all",
}


def clashes(nonces: Nonces) -> list[Case]:
    cases = []
    for shape, words in SHAPES.items():
        first, count = nonces.range(f"first {shape}", 0x100, 0x300), nonces.range(f"count {shape}", 6, 20)
        name = {key: nonces.choice(f"{key} {shape}", each) for key, each in
                {"there": NAMES[:3], "comes": NAMES[3:]}.items()}  # fmt: skip
        shapes: dict[str, list[int]] = {
            "left": [first - 4, 5], "right": [first + count - 1, 6], "inside": [first + 2, count - 4],
            "around": [first - 3, count + 6], "same": [first, count], "empty": [first - 0x50, 0],
        }  # fmt: skip
        others: list[Claim] = [["lamp", first - 0x40, 8], [name["there"], first, count], ["motor", first + 0x40, 8]]
        named = [name["comes"]] + ([] if shape == "empty" else [name["there"]])
        expected = {"shape": shape, "names": named, "bus": in_order(others)[-1]}
        cases.append(
            Case({"claims": [*others, [name["comes"], *shapes[shape]]]}, expected, f"a claim like this: {words}")
        )
    return cases


def refused(case: Case, obs: Observation) -> Finding:
    seen, shape = steps(obs), case.expected["shape"]
    last, claim = (seen[-1] if seen else {}), case.inputs["claims"][-1]
    raised, said, names = last.get("raised"), last.get("said"), last.get("names")
    if len(seen) < len(case.inputs["claims"]) or any(each.get("raised") != "" for each in seen[:-1]):
        return fail("a claim that is nobody else's was refused: see 05.1", "fits")
    if raised == "":
        hint = {"empty": "empty", "same": "raise", "left": "first", "around": "around"}.get(shape, "overlap")
        return fail(f"{places(claim)} was attached", hint)
    if raised != "ValueError":
        return fail(f"{places(claim)} was refused by {raised}; ValueError is expected", "kind")
    missing = [name for name in case.expected["names"] if name not in str(said)]
    if missing:
        return fail(f"the error says {said!r}, and does not name {' and '.join(missing)}", "names")
    if not isinstance(names, list) or sorted(map(str, names)) != sorted(case.expected["bus"]):  # their order is 05.1's
        there = isinstance(names, list) and claim[0] in names
        what = "is on the bus all the same" if there else "the bus is not what it was"
        return fail(f"{places(claim)} was refused, and {what}", "kept")
    return OK


# ---- 05.2 find ----


def lookups(nonces: Nonces) -> list[Case]:
    at = nonces.range("at", 0x20, 0x60)
    claims: list[Claim] = []
    for place, name in enumerate(NAMES):
        count = nonces.range(f"count{place}", 2, 9)
        claims.append([name, at, count])
        at += count + (0 if place % 2 else nonces.range(f"gap{place}", 2, 9))
    few = [each for _, first, count in claims for each in (first, first + count - 1, first + count)]
    few = [claims[0][1] - 1, 0, *few, 0xFFFF]
    gaps = [nonces.range(f"gap {n}", 0, 6) for n in range(1000)]
    many = [[f"device {n}", 0x1000 + 16 * n, 10 + gaps[n]] for n in range(1000)]
    some = [nonces.range(f"some {n}", 0x1000, 0x1000 + 16_000) for n in range(30)]
    return [
        Case({"claims": claims, "addresses": few}, None, "six devices"),
        Case({"claims": [], "addresses": [0, few[0]]}, None, "a bus that nobody is on"),
        Case({"claims": many, "addresses": some}, None, "a thousand devices"),
    ]


MOST_LOOKS = 40  # bisection needs some ten


def whose(case: Case, obs: Observation) -> Finding:
    claims, names, looks = case.inputs["claims"], obs.list("names"), obs.ints("looks")
    for place, address in enumerate(case.inputs["addresses"]):
        owner = next((each for each in claims if each[1] <= address < each[1] + each[2]), None)
        wanted = owner[0] if owner else None
        actual = names[place] if place < len(names) else "nothing"
        if actual != (wanted and [wanted]):
            given = actual[0] if isinstance(actual, list) and len(actual) == 1 else describe(actual)
            message = f"at {address:#x} `find` gives {given} where {wanted or 'None'} is expected"
            if not isinstance(actual, list) and actual is not None:
                return fail(message, "device")
            if owner:
                return fail(message, "first" if address == owner[1] else "last")
            return fail(message, "before" if claims and address < claims[0][1] else "gap")
        if looks[place] > MOST_LOOKS:
            message = f"for {address:#x} it looked at claims {looks[place]} times; {MOST_LOOKS} are plenty"
            return fail(message, "slow")
    return OK


# ---- 05.3 cycles ----


def inside(nonces: Nonces) -> list[Case]:
    cases = []
    for width in (4, 1, 2, 8):
        first = nonces.range(f"first {width}", 0x100, 0x900)
        device = a_device(nonces, nonces.choice(f"name {width}", NAMES), first, 32, width)
        at = [first + nonces.range(f"at {width} {size}", 0, 24) for size in (1, 2, 4, 8, 3, 7, 5)]
        accesses = [list(each) for each in zip(at, (1, 2, 4, 8, 3, 7, 5), strict=True)]
        cases.append(Case({"devices": [device], "accesses": accesses}, None, f"a device that takes {width} at once"))
    return cases


def borders(nonces: Nonces) -> list[Case]:
    cases = []
    for run in range(2):
        base = nonces.range(f"base{run}", 0x100, 0x800)
        devices = row_of_devices(nonces, base)
        accesses = [[base + 11 - n, size] for size in (2, 4, 8) for n in range(size)]  # around the single address
        accesses += [[base + nonces.range(f"at{run}{n}", 0, 24), nonces.choice(f"size{run}{n}", (1, 2, 4, 8, 7))]
                     for n in range(20)]  # fmt: skip
        accesses += [[base + 40, 4], [base + 40, 7], [base + 14, 3], [base + 15, 7]]
        cases.append(Case({"devices": devices, "accesses": accesses}, None, f"row of devices {run + 1} of 2"))
    return cases


def well_cut(case: Case, obs: Observation) -> Finding:
    bus, values = Bus(case.inputs["devices"]), obs.list("values")
    for place, (address, size) in enumerate(case.inputs["accesses"]):
        wanted = [list(each) for each in bus.cycles(address, size)]
        actual = values[place] if place < len(values) else None
        if actual == wanted:
            continue
        there = ", ".join(f"{name} at {first:#x} to {first + count - 1:#x}, {width} at once"
                          for name, first, count, width, _ in case.inputs["devices"])  # fmt: skip
        message = f"{of(size, 'byte')} at {address:#x}: {shown(actual)} where {shown(wanted)} is expected ({there})"
        return fail(message, why_not(bus, address, size, actual))
    return OK


def shown(cut: object) -> str:
    if not isinstance(cut, list):
        return describe(cut)
    return "[" + ", ".join(f"({number(each[0])}, {each[1]})" if isinstance(each, list) and len(each) == 2
                           else describe(each) for each in cut[:9]) + "]"  # fmt: skip


def why_not(bus: Bus, address: int, size: int, cut: object) -> str:
    """The key of the hint for a wrong cut."""
    pairs = [each for each in cut if isinstance(each, list) and len(each) == 2] if isinstance(cut, list) else []
    if not pairs or any(type(part) is not int for each in pairs for part in each):
        return "pairs"
    covered = [at + n for at, length in pairs for n in range(min(length, 8))]
    if sorted(covered) != list(range(address, address + size)):
        return "cover"
    for at, length in pairs:
        owners = [bus.find(at + n) for n in range(length)]
        if any(each is not owners[0] for each in owners):
            return "ends" if owners[0] is owners[-1] else "border"
        if owners[0] and length > owners[0][3]:
            return "width"
        if owners[0] and length not in (1, 2, 4, 8):
            return "odd"
    if pairs == greedy(bus, address, size):
        return "greedy"
    right = bus.cycles(address, size)
    if any(length > 1 and bus.find(at) is None and [at, length] not in pairs for at, length in right):
        return "nobody"
    further = all(any(at <= start and start + length <= at + whole for at, whole in right) for start, length in pairs)
    return "bytes" if further else "halves"


def greedy(bus: Bus, address: int, size: int) -> list[list[int]]:
    """Another rule, which sounds right: from the left on, as much as the same owner takes."""
    cut, end = [], address + size
    while address < end:
        owner, length = bus.find(address), 1
        while address + length < end and bus.find(address + length) is owner:
            length += 1
        if owner:
            length = 1 << min(length, owner[3]).bit_length() - 1
        cut.append([address, length])
        address += length
    return cut


CUTS = (
    Hint("halves", "The first part is the largest power of two below the size, and the rest the other: 7 bytes are 4, "
         "2 and 1. The classic mistake halves."),
    Hint("width", "A device takes `width` bytes at once, no more: a wider access is cut in two, until it fits."),
    Hint("odd", "A cycle has 1, 2, 4 or 8 bytes. An exit may well have 3, 5 or 7 (section 7): cut it."),
    Hint("bytes", "Too many cycles: an access that fits into one stays whole. (A device takes up to `width` bytes at "
         "once: fewer, too.)"),
    Hint("greedy", "First the access is cut, whoever is there: at the largest power of two below its size. What lies "
         "on both sides of a cut stays two cycles, though one device may have it all."),
    Hint("border", "One cycle belongs to one device. This one reaches from one owner to another."),
    Hint("ends", "Look at the owner of every byte. The classic mistake looks at the ends only: in between there is a "
         "device."),
    Hint("nobody", "What nobody has any byte of stays whole: there is no width to keep."),
    Hint("cover", "The cycles must cover each byte of the access, once and in order."),
    Hint("pairs", "A list of pairs, (address, size)."),
    Hint("none", "Where nobody is, `find` gives None, and None has no `width`: what nobody has any byte of stays "
         "whole.", when="NoneType"),
    LOOP,
)  # fmt: skip


def cut_check(number: str, title: str, cases: Any) -> Check:
    return Check(number, title, 1, exercise="cycles", driver="cut", cases=cases, judge=well_cut, hints=CUTS)


CHECKS = (
    Check(
        "05.1", "claims that fit are attached, in order", 1,
        exercise="attach", driver="claims_attached", cases=fits, judge=attached,
        hints=(
            Hint("neighbour", "These claims have no address in common: `stop` is the first address that a range does "
                 "not have. The classic mistake takes `<=` for `<`."),
            Hint("order", "`bus.devices` must be in the order of the first addresses, whoever came first. Devices "
                 "themselves have no order: sort by a key, `claim.start`."),
            Hint("lost", "`bus.devices` must have every device that was attached, once."),
            LOOP,
        ),
    ),
    Check(
        "05.1b", "what can't be is refused, with names", 1,
        exercise="attach", driver="claims_attached", cases=clashes, judge=refused,
        hints=(
            Hint("raise", "Two devices on the same addresses: raise ValueError, and let neither answer for the other. "
                 "(To return something or to print is no refusal.)"),
            Hint("overlap", "They have addresses in common. Two claims are apart if one ends before the other begins; "
                 "whatever else is an overlap."),
            Hint("first", "The new claim begins at a free address, and runs into another. The classic mistake looks "
                 "only whether the new first address is taken."),
            Hint("around", "Neither end of the new claim is taken, and yet another lies inside it."),
            Hint("empty", "A device without an address can never be asked. An empty range is False."),
            Hint("names", "Whoever reads the error has to pull one of two cards: name them both (of an empty claim, "
                 "the one)."),
            Hint("kind", "Refuse by `raise ValueError(…)`."),
            Hint("kept", "First look at all the others, then append: whatever is refused must not be on the bus, and "
                 "who was there stays."),
            Hint("fits", "Claims side by side are no overlap."),
            LOOP,
        ),
    ),
    Check(
        "05.2", "the owner of an address, in a few looks", 1,
        exercise="find", driver="found", cases=lookups, judge=whose,
        hints=(
            Hint("gap", "Nobody is there: the device that begins before this address has ended. Ask whether it is in "
                 "the claim."),
            Hint("before", "Nothing begins at or before this address. The classic mistake takes item -1: for Python, "
                 "that is the last device."),
            Hint("first", "A device has its first address, too. `bisect_right` counts the keys up to and with the "
                 "address; `bisect_left` leaves out the one that is equal."),
            Hint("last", "A device has all its addresses, up to `stop - 1`."),
            Hint("slow", "It went through the devices one by one. They are in order: `bisect_right(bus.devices, "
                 "address, key=…)` looks at ten of a thousand."),
            Hint("device", "`find` gives the device itself, not its name or number; and None where nobody is."),
            Hint("key", "A device can't be compared with an address: `bisect_right(bus.devices, address, key=…)`, "
                 "where the key of a device is the first address of its claim.", when="not supported between"),
            Hint("empty", "A bus may have no devices at all: then there is no number -1 either.",
                 when="that nobody is on.*IndexError"),
            Hint("index", "An address may lie before the first device or behind the last one.", when="IndexError"),
            Hint("none", "That nobody is there is an answer, not an error: `return None`.",
                 when="LookupError|KeyError|ValueError"),
            LOOP,
        ),
    ),
    cut_check("05.3", "no more than a device takes at once", inside),
    cut_check("05.3b", "over borders and gaps", borders),
)  # fmt: skip
