"""Cases and judges of lab 00 for instruction sets, hosts and the first guests: tasks 00.6 to 00.9."""

from __future__ import annotations

from itertools import product
from typing import Any

from autograder import judge
from autograder.model import Case, Finding
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.lab00_machine import amount, named
from autograder.stages.models import expected_console
from minivmm import guests

# ---- 00.6 holes ----

# In user mode, each reads the machine's state, writes it, traps (SDM vol. 2, each instruction; UMIP off).
X86 = [
    ("hlt", 0, 1, 1), ("lgdt", 0, 1, 1), ("lidt", 0, 1, 1), ("mov to cr3", 0, 1, 1), ("mov from cr3", 1, 0, 1),
    ("rdmsr", 1, 0, 1), ("wrmsr", 0, 1, 1), ("cli", 0, 1, 1), ("sgdt", 1, 0, 0), ("sidt", 1, 0, 0), ("sldt", 1, 0, 0),
    ("smsw", 1, 0, 0), ("str", 1, 0, 0), ("pushf", 1, 0, 0), ("popf", 0, 1, 0), ("lar", 1, 0, 0), ("verr", 1, 0, 0),
    ("add", 0, 0, 0), ("jmp short", 0, 0, 0), ("ud2", 0, 0, 1),
]  # fmt: skip


def instruction_sets(nonces: Nonces) -> list[Case]:
    real = [[name, bool(reads), bool(writes), bool(traps)] for name, reads, writes, traps in X86]
    combinations = list(product((False, True), repeat=3))
    made: list[list[Any]] = []
    for n in range(24):
        facts = combinations[n] if n < 8 else nonces.choice(f"facts{n}", combinations)
        made.append([f"op{nonces.range(f'name{n}', 0, 1 << 20):05x}", *facts])
    made.sort(key=lambda row: nonces.u64(f"order {row[0]}"))
    closed = [[name, reads, writes, True] for name, reads, writes, _ in made]
    return [
        Case({"rows": rows}, hole_names(rows), label)
        for rows, label in (
            (real, "instructions of x86"),
            (made, "made-up instructions"),
            (closed, "a CPU where all trap"),
        )
    ]


def hole_names(rows: list[list[Any]], mistake: str = "") -> list[str]:
    def is_hole(reads: bool, writes: bool, traps: bool) -> bool:
        match mistake:
            case "writes-only":
                return writes and not traps
            case "reads-only":
                return reads and not traps
            case "both":
                return reads and writes and not traps
            case "brackets":
                return reads or (writes and not traps)
            case "traps":
                return (reads or writes) and traps
            case "harmless":
                return not traps
        return (reads or writes) and not traps

    return [name for name, *facts in rows if is_hole(*facts)]


def same_holes(case: Case, obs: Observation) -> Finding:
    rows, found = case.inputs["rows"], obs.raw()
    keys = ("writes-only", "reads-only", "both", "brackets", "traps", "harmless")
    hint = named(found, keys, lambda mistake: hole_names(rows, mistake))
    if isinstance(found, list) and all(isinstance(name, str) for name in found) and found != case.expected:
        facts = {name: describe(*rest) for name, *rest in rows}
        wrong = next((name for name in found if name not in case.expected), None)
        missed = next((name for name in case.expected if name not in found), None)
        if wrong is not None:
            return judge.fail(f"{wrong!r} is no hole: {facts.get(wrong, 'it was not in the list')}", hint)
        if missed is not None:
            return judge.fail(f"{missed!r} is a hole and is not found: {facts[missed]}", hint)
    return judge.same_value(case.expected, found, "what `holes` returned", hint)


def describe(reads: bool, writes: bool, traps: bool) -> str:
    return f"reads state: {reads}, writes state: {writes}, traps: {traps}"


# ---- 00.7 what_can_run ----

COMMON = "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge sse sse2 ht syscall nx lm"


def hosts(nonces: Nonces) -> list[Case]:
    cases = []
    for n, (flag, inside, device) in enumerate(product(("vmx", "svm", ""), (False, True), (False, True))):
        extra = [flag] * bool(flag) + ["hypervisor"] * inside
        cases.append(host(nonces, f"host{n}", extra, device, f"the flags {' '.join(extra) or '(none of them)'}, "))
    return cases


def lookalikes(nonces: Nonces) -> list[Case]:
    """Texts that hold the words we look for in places that mean something else; and one where they mean it."""
    name = f"{nonces.choice('flag', ('vmx', 'svm'))} hypervisor CPU"
    arm = "processor\t: 0\nBogoMIPS\t: 48.00\nFeatures\t: fp asimd evtstrm crc32 svm\n"
    vmx, bugs = "vmx flags\t: vnmi vmx svm hypervisor\n", "bugs\t\t: spectre_v1 vmx hypervisor\n"
    other = "a line of another name, "
    return [
        host(nonces, "lookalike", ["svm_lock", "vmx_ept"], False, "flags that only look alike, ", key="substring"),
        host(nonces, "model", [], False, "a word in the model name, ", name, key="whole-text"),
        host(nonces, "second", [], False, other, more=vmx, key="line"),
        host(nonces, "tail", [], False, other, more=bugs, key="line"),
        host(nonces, "real", ["vmx", "vmx_ept"], True, "a flag among its lookalikes, ", name, vmx, key="line"),
        Case({"cpuinfo": "", "has_device": False}, judged([], False), f"an empty text, {seen(False)}"),
        Case({"cpuinfo": arm, "has_device": False}, judged([], False), "an ARM host"),
    ]


def host(
    nonces: Nonces, label: str, extra: list[str], device: bool, words: str, model: str = "Example CPU @ 2.40GHz",
    more: str = "", key: str = "",
) -> Case:  # fmt: skip
    flags = [*COMMON.split(), *extra]
    flags.sort(key=lambda flag: nonces.u64(f"{label} {flag}"))
    one = f"model name\t: {model}\nflags\t\t: {' '.join(flags)}\n{more}"
    text = "\n".join(f"processor\t: {n}\nvendor_id\t: AnyVendor\n{one}" for n in range(2))
    return Case({"cpuinfo": text, "has_device": device}, (*judged(extra, device), key), words + seen(device))


def judged(flags: list[str], device: bool) -> tuple[str, bool]:
    able = "vmx" in flags or "svm" in flags
    word = ("hardware" if device else "switched off") if able else ("interpreter" if device else "emulate")
    return word, "hypervisor" in flags


def seen(device: bool) -> str:
    return "and /dev/kvm" if device else "and no /dev/kvm"


def same_verdict(case: Case, obs: Observation) -> Finding:
    value = obs.raw()
    if not isinstance(value, list) or len(value) != 2:
        return judge.fail(f"`what_can_run` gave {amount(value)} where a word and True or False are expected", "pair")
    word, inside, *key = case.expected
    hint = next((each for each in key if each), "")
    flags = case.inputs["cpuinfo"].split()
    vendor = "amd" if "svm" in flags and "vmx" not in flags else "device"
    return judge.all_of(
        judge.same_value(word, value[0], "the word", hint or vendor),
        judge.same_value(inside, value[1], "whether the host is a VM itself", hint or "inside"),
    )


# ---- 00.8 first_guest ----

LONG, SHORT = 1.0, 0.05  # seconds on the clock: for guests that end by themselves, and for one that doesn't


def printing(name: str, nonces: Nonces, label: str, typed: bytes = b"", patience: float = LONG, **values: int) -> Case:
    parameters = {"nonce": nonces.u64(f"nonce of {label}"), **values}
    host = {"received": typed + bytes(1)} if typed else {}
    if "size" in values:
        image = guests.load(name).patched(**parameters)
        start = values["address"] - 0x1000
        host["data"] = image.ljust(0x2000, b"\0")[start : start + values["size"]]
    console = expected_console(name, parameters, **host)
    inputs = {"image": guests.load(name).patched(**parameters), "typed": typed + bytes(1) if typed else b""}
    return Case(inputs | {"patience": patience}, console, label)


def greetings(nonces: Nonces) -> list[Case]:
    lines = nonces.range("lines", 2, 7)
    return [
        printing("hello", nonces, "the guest hello"),
        printing("countdown", nonces, f"a countdown from {lines}", count=lines),
    ]


def own_bytes(nonces: Nonces) -> list[Case]:
    """A guest that sums up its own image, and the zeros behind it: both must lie where they belong."""
    size, gap = nonces.range("size", 16, 64), nonces.range("gap", 0, 0x800)
    return [
        printing("checksum-real", nonces, "a checksum of the image", address=0x1000, size=size),
        printing("checksum-real", nonces, "a checksum of empty memory", address=0x2000 + gap, size=size),
    ]


def typing(nonces: Nonces) -> list[Case]:
    texts = [bytes(33 + byte % 90 for byte in nonces.bytes(f"text{n}", nonces.range(f"n{n}", 1, 20))) for n in range(2)]
    return [printing("port-echo", nonces, f"{len(text)} bytes typed", typed=text) for text in texts]


def endless(nonces: Nonces) -> list[Case]:
    return [printing("spinner", nonces, "a guest that never ends", patience=SHORT)]


def same_console(case: Case, obs: Observation) -> Finding:
    console = obs.raw()
    if not obs.exits:
        return judge.fail("no guest ran: not one exit was seen", "never-ran")
    hint = "silent" if console == b"" and not any(line.startswith("out") for line in obs.exits) else ""
    if case.inputs["typed"] and any(line.startswith("in8 port 0x3f8") for line in obs.exits):
        hint = "typed"  # it asked for a key, so it ran
    found = judge.same_bytes(case.expected, console, "the console", hint)
    return found if found.ok else judge.fail(f"{found.message}\n{judge.show_exits(obs.exits)}", found.hint)


# ---- 00.9 fate ----


def ending(name: str, nonces: Nonces, word: str, patience: float = LONG) -> Case:
    guest = guests.load(name)
    parameters = {"nonce": nonces.u64(f"nonce of {name}")}
    first = expected_console(name, parameters)[0]
    if name == "debug-exit":
        word = f"exit code {first << 1 | 1}"
    proof = f"out8 port {guest.defaults['port']:#x}: {first:02x}"
    inputs = {"image": guest.patched(**parameters), "mode": guest.mode, "patience": patience}
    return Case(inputs, (word, proof), f"the guest {name} in {guest.mode} mode")


def halting(nonces: Nonces) -> list[Case]:
    return [ending(f"{mode}-hello", nonces, "halted") for mode in ("real", "protected", "long")]


def last_words(nonces: Nonces) -> list[Case]:
    return [ending("debug-exit", Nonces(nonces.seed, nonces.lab, nonces.check, run), "") for run in (1, 2)]


def dying(nonces: Nonces) -> list[Case]:
    return [ending("triple-fault", nonces, "died")]


def spinning(nonces: Nonces) -> list[Case]:
    return [ending("spinner", nonces, "runs for ever", SHORT)]


def same_fate(case: Case, obs: Observation) -> Finding:
    word, proof = case.expected
    if proof not in obs.exits:
        message = "the guest did not run as it should: its first byte never came out"
        return judge.fail("\n".join(filter(None, [message, judge.show_exits(obs.exits)])), "never-ran")
    found = judge.same_value(word, obs.raw(), "what `fate` returned")
    return found if found.ok else judge.fail(f"{found.message}\n{judge.show_exits(obs.exits)}")
