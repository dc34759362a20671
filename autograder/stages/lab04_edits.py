"""Lab 04, a guest edits its own tables: each write comes to the student, who has the shadow made anew."""

from __future__ import annotations

from typing import Any

from autograder.judge import fail
from autograder.model import OK, Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.odd import describe
from autograder.stages.common import LOOP, guest, suited
from autograder.stages.lab04_common import LIST, TYPES, ended, far, frames, low, number, numbers, on_console
from autograder.stages.lab04_models import MASK_32, table_editor_edits
from autograder.stages.lab04_shadows import SHADOW_FRAMES, SHADOW_LIMITS, SHADOWED, shadow_case
from autograder.stages.lab04_tables import PAGE, TABLES, Tables, canonical
from autograder.stages.models import expected_console

# ---- cases ----


def windows(nonces: Nonces) -> list[Case]:
    """table-editor moves eight windows; then entry-tester tries entries of all kinds."""
    return [moved_windows(nonces), tested_entries(nonces)]


def one_table(nonces: Nonces, name: str, count: int) -> tuple[Tables, int, int]:
    """Tables with a window of `count` pages that shows nothing yet, its address, and the place of its first entry.

    One more page in the same table is mapped and stays: the shadow keeps its shape, however the guest moves the window.
    """
    tables = low(Tables(nonces, name))
    window = far(nonces, f"{name} window", True) & ~0x1F000
    tables.map(canonical(window | 0x1F000), frames(nonces, SHADOW_FRAMES)[-1])
    first = tables.place(window)
    for n in range(count):
        # A write of half an entry leaves the other half as it is: so there has to be something in it.
        tables.entries[first + 8 * n] = (1 + nonces.range(f"{name} mark {n}", 0, 126)) << 52
    return tables, window, first


def table_case(
    nonces: Nonces, tables: Tables, label: str, run: dict[str, Any], writes: list[tuple[int, int, int]]
) -> Case:
    """`writes` are the guest's edits as (place, size, value)."""
    case = shadow_case(nonces, tables, label, run)
    base = case.expected["base"]
    case.inputs.update(protect=True, others=[[base - 0x1000, 1], [base + SHADOWED, 1], [base + TABLES.start, 0]])
    memory = {gpa: bytearray(data) for gpa, data in tables.plant()}
    entries = []
    for place, size, value in writes:
        page, at = memory[place & ~0xFFF], place & 0xFFF
        page[at : at + size] = value.to_bytes(8, "little")[:size]
        entries.append(int.from_bytes(page[at : at + 8], "little"))
    after = b"".join(bytes(memory.get(page, bytes(PAGE))) for page in TABLES[::PAGE])
    case.expected.update(
        writes=[[base + place, size] for place, size, _ in writes], guest_tables=after, entries=entries
    )
    return case


def moved_windows(nonces: Nonces) -> Case:
    tables, window, first = one_table(nonces, "editor", 8)
    shown = nonces.range("shown", SHADOW_FRAMES.start, SHADOW_FRAMES.stop - 8) << 12

    def halves_and_wholes(nonce: int) -> bool:
        return {size for _, size, _ in table_editor_edits(nonce, 8, 12, first, shown)} == {4, 8}

    parameters = {"nonce": suited(nonces.u64, "editor", halves_and_wholes), "address": window, "size": 8 * PAGE}
    parameters |= {"count": 12, "value": first, "option": shown}
    label = "eight windows that move twelve times"
    edits = table_editor_edits(parameters["nonce"], 8, 12, first, shown)
    case = table_case(nonces, tables, label, guest("table-editor", **parameters), edits)
    case.expected["console"] = expected_console("table-editor", parameters)
    return case


def tested_entries(nonces: Nonces) -> Case:
    tables, window, place = one_table(nonces, "tester", 1)
    free = frames(nonces, SHADOW_FRAMES)
    held = nonces.range("held", 1, 1 << 32)
    outside = SHADOWED + PAGE * nonces.range("outside", 1, 15)  # the page right behind is 04.8b's
    # Entry, write?, what comes of it. The last one shows a frame again that a write has changed.
    records = [
        (free[0] | 3, 0, ("+", held)),
        (free[0], 0, ("-", 0)),
        (free[1] | 3, 1, ("+", free[1] | 3)),
        (free[0] | 1, 1, ("-", 3)),
        (outside | 3, 0, ("-", 0)),
        (free[1] | 1, 0, ("+", free[1] | 3)),
    ]
    parameters = {"nonce": nonces.u64("tester"), "address": LIST, "value": place, "option": window}
    parameters["count"] = len(records)
    edits = [(place, 8, entry) for entry, _, _ in records]
    case = table_case(nonces, tables, "six entries, one after the other", guest("entry-tester", **parameters), edits)
    case.inputs["plant"] += [[LIST, b"".join(numbers([entry, write]) for entry, write, _ in records)],
                             [free[0], numbers([held], 4)]]  # fmt: skip
    results = [result for _, _, result in records]
    case.expected["console"] = expected_console("entry-tester", parameters, results=results)
    return case


# ---- judges ----


def edits(case: Case, obs: Observation) -> Finding:
    """Each write was taken, put into the guest's table, and followed by a rebuild."""
    answers, writes = obs.list("answers"), case.expected["writes"]
    entries = case.expected["entries"]
    for n, answer in enumerate(answers):
        known = isinstance(answer, list) and len(answer) == 5
        address, size, is_write, said, entry = answer if known else (0, 0, 0, None, 0)
        if said is not True:
            what = f"exit {n + 1}, a {'write' if is_write else 'read'} of {size} bytes at {number(address)}"
            return fail(f"{what}: the answer was {describe(said)} where True is expected", "answer")
        if n < len(writes) and writes[n] != [address, size]:
            return fail(f"exit {n + 1} is at {number(address)} where {writes[n][0]:#x} is expected", "stale")
        if n < len(writes) and entry != entries[n]:
            text = f"exit {n + 1}, a write of {size} bytes: the guest's entry is now {number(entry)}"
            hint = "length" if type(entry) is int and (entry ^ entries[n]) & MASK_32 == 0 else "apply"
            return fail(f"{text} where {entries[n]:#x} is expected", hint)
    rebuilt = obs.list("rebuilt")
    if len(rebuilt) != len(answers):
        return fail(f"rebuild was called {len(rebuilt)} times after {len(answers)} writes", "rebuild")
    if not (finding := ended(obs, "stale")).ok:
        return finding
    if not (finding := on_console(obs, case.expected["console"], "stale")).ok:
        return finding
    if not (finding := kept(case, obs)).ok:
        return finding
    if obs.list("others") != [False] * len(case.inputs["others"]) or obs.raw("unharmed") is not True:
        said = ", ".join(describe(each) for each in obs.list("others"))
        return fail(f"a write below, one above, and a read of the guest's memory: answers {said}; all False expected, "
                    "and nothing done", "others")  # fmt: skip
    return OK


def kept(case: Case, obs: Observation) -> Finding:
    """The guest's own tables, as the guest would read them: what it has written, and no byte more."""
    tables, wanted = obs.bytes("guest_tables"), case.expected["guest_tables"]
    if len(tables) != len(wanted):
        return fail("the guest's tables are not there", "apply")
    for at in range(0, len(wanted), 8):
        got, want = tables[at : at + 8], wanted[at : at + 8]
        if got != want:
            place, shown, wrote = (
                case.inputs["tables"][0] + at,
                *(int.from_bytes(each, "little") for each in (got, want)),
            )
            hint = "length" if got[:4] == want[:4] else "apply"
            return fail(f"the guest's entry at its {place:#x} is {shown:#x} where {wrote:#x} is expected", hint)
    return OK


CHECKS = (
    Check(
        "04.9", "every edit of the guest comes to you", 1,
        exercise="table_write", driver="table_writes", cases=windows, judge=edits,
        guests=("table-editor", "entry-tester"), needs=("build_shadow", "pages"), limits=SHADOW_LIMITS,
        hints=(
            Hint("apply", "The slot is read-only, so the guest's write has not happened: put the bytes into `ram` "
                 "yourself, at `phys_addr - base`."),
            Hint("length", "Write `len` bytes, not always eight: the guest may change half an entry."),
            Hint("rebuild", "After each write call `rebuild()`, once: the shadow still shows the old state."),
            Hint("stale", "The guest saw an old mapping. First the write, then the rebuild: it reads the guest's "
                 "tables."),
            Hint("answer", "The write was the guest's own: answer True."),
            Hint("others", "An exit outside `ram`, or a read, belongs to somebody else: return False, touch "
                 "nothing."),
            Hint("assign", "A slice of `ram` takes bytes of the same length: `bytes(mmio.data[0 : mmio.len])`.",
                 when="memoryview|[Cc][Dd]ata|assignment|bytes-like"),
            Hint("died", "The guest came to a bad end: is what it runs on still what its own tables say?"),
            TYPES, LOOP,
        ),
    ),
)  # fmt: skip
