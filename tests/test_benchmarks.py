"""The benchmarks still run. What they find is for `make bench`; a test asserts no time."""

from __future__ import annotations

import importlib
import platform
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from minivmm.accel import choose
from minivmm.exits import PortOut

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.kvm
@pytest.mark.parametrize(("name", "rows"), [("exits", 6), ("startup", 6), ("memory", 3)])
def test_a_benchmark_runs(name: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(module, "ROUNDS", 1)
    assert module.measure().row_count >= rows


def test_the_benchmark_of_soft_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no /dev/kvm. Four tables: loops, exits, start-up, memory."""
    monkeypatch.chdir(ROOT)
    soft = importlib.import_module("benchmarks.soft")
    for name, value in {"ROUNDS": 1, "SECONDS": 0.02, "EXITS": 200, "MACHINES": 2}.items():
        monkeypatch.setattr(soft, name, value)
    assert [table().row_count for table in (soft.loops, soft.exits, soft.start_up, soft.footprint)] == [3, 2, 6, 2]


def test_an_unknown_benchmark_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module("benchmarks.__main__").main
    assert main(["speed"]) == 2
    said = capsys.readouterr().out
    assert "'speed'" in said
    assert "exits" in said
    assert "linux" in said


def test_without_a_name_the_quick_ones_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    main_module = importlib.import_module("benchmarks.__main__")
    ran: list[str] = []

    def found(name: str) -> SimpleNamespace:
        return SimpleNamespace(measure=lambda: ran.append(name) or "")

    monkeypatch.setattr(main_module, "importlib", SimpleNamespace(import_module=found))
    monkeypatch.setattr(main_module, "choose", lambda: choose("soft"))
    assert main_module.main([]) == 0
    assert ran == [f"benchmarks.{name}" for name in main_module.QUICK]
    assert main_module.main(["block"]) == 0
    assert ran[-1] == "benchmarks.block"


def test_the_box_gets_the_same_names(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr("box.Box.run", lambda self, command, timeout: commands.append(command) or 7)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert importlib.import_module("benchmarks.__main__").main(["--box", "linux"]) == 7
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert commands == [[sys.executable, "-m", "benchmarks", "linux"]]


def test_both_vmms_get_the_same_guest() -> None:
    qemu = importlib.import_module("benchmarks.qemu")
    guest = qemu.Guest(Path("/k"), Path("/i"), Path("/d"))
    theirs, ours = qemu.qemu(guest, "tcg"), qemu.minivmm(guest, "soft")
    for command, memory in ((theirs, "-m"), (ours, "--memory")):
        assert command[command.index(memory) + 1] == str(qemu.MEMORY)
        assert any("/k" in word for word in command)
        assert any("/i" in word for word in command)
        assert any("/d" in word for word in command)
        assert any(qemu.APPEND in word for word in command)
    assert not any("/d" in word for word in qemu.qemu(qemu.Guest(Path("/k"), Path("/i")), "kvm"))
    assert qemu.APPEND in qemu.qemu(guest, "kvm")  # word for word: kvmclock tells it how fast the TSC is


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="there is a TSC on x86 only")
def test_the_tsc_is_between_a_hundred_megahertz_and_ten_gigahertz() -> None:
    assert 100_000 < importlib.import_module("benchmarks.qemu").host_tsc_khz(0.01) < 10_000_000


def fake(text: str, *, then: str = "import time; time.sleep(60)", before: str = "") -> list[str]:
    """A "VMM" whose guest prints `text`."""
    return [sys.executable, "-c", f"{before}\nprint({text!r}, flush=True)\n{then}"]


def test_marks_are_read_in_whatever_pieces_they_come() -> None:
    watched = importlib.import_module("benchmarks.watched")
    spend = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\nprint('@two')"
    error = importlib.import_module("benchmarks.qemu").CannotMeasureError
    with watched.Watched(fake("not@three\n@one", then=spend)) as vmm:
        one, two = vmm.until("one", 60), vmm.until("two", 60)
        with pytest.raises(error):
            vmm.until("three", 60)  # a mark begins its line: an echoed command doesn't count
    assert one.wall < two.wall
    assert (two - one).cpu >= 0.15
    assert (two - one).wall == two.wall - one.wall


def test_a_vmm_that_ends_or_hangs_says_its_last_words() -> None:
    watched = importlib.import_module("benchmarks.watched")
    error = importlib.import_module("benchmarks.qemu").CannotMeasureError
    with (
        watched.Watched(fake("panic", then="import sys; sys.exit('no disk')")) as vmm,
        pytest.raises(error, match=r"ended before its guest printed @init(.|\n)*panic(.|\n)*no disk"),
    ):
        vmm.until("init", 60)
    with watched.Watched(fake("slow")) as vmm, pytest.raises(error, match=r"killed after 0.5 s"):
        vmm.until("init", 0.5)


def test_the_memory_of_the_guest_is_left_out() -> None:
    watched = importlib.import_module("benchmarks.watched")
    ram = f"import mmap\nram = mmap.mmap(-1, {watched.MEMORY} << 20); ram.write(b'x' * (64 << 20))\n"
    with watched.Watched(fake("@init", before=ram + "held = b'x' * (32 << 20)")) as vmm:
        vmm.until("init", 60)
        assert 32 < vmm.memory_over_guest() < 90  # the block that filled `ram` may be held still, `ram` is not in it


MARKS = "init", "ready", "read", "write", "small_read", "small_write"


def two_fakes() -> SimpleNamespace:
    """Two VMMs whose guests print all marks that any benchmark waits for, a little apart."""
    work = f"import time\nfor mark in {MARKS}: print('@' + mark, flush=True); time.sleep(0.02)\ntime.sleep(60)"
    return SimpleNamespace(vmms={name: lambda guest: fake("", then=work) for name in ("theirs", "ours")})


def test_they_take_turns_and_the_first_round_is_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    watched = importlib.import_module("benchmarks.watched")
    turns: list[int] = []

    def look(vmm: object) -> int:
        turns.append(len(turns))
        return turns[-1]

    assert watched.in_turn(two_fakes(), None, 2, look) == {"theirs": [2, 4], "ours": [3, 5]}
    assert "round 0, theirs: 0" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "rows"), [("linux", 2), ("block", 8)])
def test_linux_beside_qemu(name: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(module, "ROUNDS", 1)
    monkeypatch.setattr(module, "contests", lambda: [two_fakes()])
    monkeypatch.setattr(module, "make_guest", lambda *_: None)
    table = module.measure()
    assert table.row_count == rows
    assert list(table.columns[0].cells)[:2] == ["theirs", "ours"]


def test_a_rate_is_the_amount_by_the_time_and_more_is_better() -> None:
    module = importlib.import_module("benchmarks.block")
    moment = importlib.import_module("benchmarks.watched").Moment
    assert module.cells([moment(2.0, 1.0)], [moment(1.0, 2.0)], 100) == ["50", "0.50", "10.000", "0.50"]


def test_the_guest_of_the_block_benchmark_tells_the_end_of_each_part() -> None:
    module = importlib.import_module("benchmarks.block")
    lines = module.script().splitlines()
    marks = [line.removeprefix("echo @") for line in lines if line.startswith("echo @")]
    assert marks == ["ready", *module.WORK]
    assert sum("bs=1M" in line and "/dev/null" in line for line in lines) == module.PASSES + 1


def test_exits_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("benchmarks.rates")
    monkeypatch.setattr(module, "ROUNDS", 1)
    monkeypatch.setattr(module, "TIMES", 20)
    table = module.loops([choose("soft").backend])
    assert list(table.columns[1].cells) == list(module.GUESTS)


def test_each_turn_of_a_loop_is_what_its_name_says() -> None:
    module = importlib.import_module("benchmarks.rates")
    machine, meter = module.prepared(choose("soft").backend, "out, hlt, irq (irqchip user)")
    with machine:
        meter.left = 10
        machine.run(60)
        kinds = [type(exit).__name__ for exit in machine.history]
    # the last turn ends in the meter: nine interrupts were served before it, each with its HLT and its end
    assert kinds.count("Halted") == 9
    assert sum(isinstance(exit, PortOut) and exit.port == 0x20 for exit in machine.history) >= 9
