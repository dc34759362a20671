"""What a student looks at, as text and as HTML."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from minivmm import lab
from minivmm.exits import Halted, PortOut
from minivmm.notebook import heat_map, hexdump, memory_map, table, timeline


@dataclass
class Slot:
    gpa: int
    size: int

    def __str__(self) -> str:
        return "slot <0>"


def test_a_table_lines_up_and_escapes() -> None:
    shown = table([("rip", "0x1000"), ("<b>", 2)], ("name", "value"))
    assert repr(shown).splitlines() == ["name  value", "────  ──────", "rip   0x1000", "<b>   2"]
    assert "&lt;b&gt;" in shown._repr_html_()
    assert "<b>" not in shown._repr_html_()


def test_a_hexdump_has_addresses_bytes_and_letters() -> None:
    line = repr(hexdump(b"Hi\n" + bytes(14), 0x1000)).splitlines()
    assert line[0].startswith("0x00001000  48 69 0a 00")
    assert line[0].endswith("Hi··············")
    assert line[1].startswith("0x00001010  00")
    assert "first 4096 of 5000" in repr(hexdump(bytes(5000)))


def test_a_timeline_folds_and_numbers() -> None:
    same = PortOut(0x3F8, 1, 1, b"a")
    text = repr(timeline([same, same, same, Halted()]))
    assert "4 exits" in text
    assert "× 3" in text
    assert text.splitlines()[-1].split() == ["4", "KVM_EXIT_HLT"]
    long = repr(timeline([PortOut(0x3F8, 1, 1, bytes([i])) for i in range(200)]))
    assert "140 more lines" in long
    assert "out8 port 0x3f8: c7" in long


def test_a_memory_map_shows_holes() -> None:
    text = repr(memory_map([Slot(0x4000, 0x1000), Slot(0, 0x1000)], 0x10_0000)).splitlines()
    assert ["hole" in line for line in text] == [False, True, False, True]
    assert "12 KiB" in text[1]
    assert "slot &lt;0&gt;" in memory_map([Slot(0, 4096)])._repr_html_()
    assert repr(memory_map([])) == "no memory slots"


def test_a_heat_map_is_darker_where_more_was_written() -> None:
    view = heat_map({0: 1, 40: 9}, 64)
    first, second, caption = repr(view).splitlines()
    assert first.split("│")[1][0] == "░"
    assert second.split("│")[1][8] == "█"
    assert caption == "2 of 64 pages written, the hottest 9 times"
    assert view._repr_html_().count("<rect") == 64
    assert repr(heat_map([3], 4)).endswith("1 of 4 pages written")


def test_a_demo_that_fails_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.try_out(divmod, 7, 2) == (3, 1)
    assert lab.try_out({}.pop, "gone") == "(stopped: 'gone')"
    with lab.trying():
        raise AssertionError
    assert capsys.readouterr().out == "(stopped: AssertionError)\n"


def test_predictions() -> None:
    assert "Noted: 2" in repr(lab.predict("0.a", 2))
    assert "so it is" in repr(lab.reveal("0.a", 2, "because."))
    assert "it is 3" in repr(lab.reveal("0.a", 3, "because."))
    assert "no prediction" in repr(lab.reveal("0.never", 1, "because."))


@pytest.mark.kvm
def test_a_run_shows_console_exits_and_death() -> None:
    run = lab.run_guest("hello", nonce=7)
    assert run.console == b"Hello, 0000000000000007\n"
    assert len(run.exits) == 25
    assert "halted" in repr(run)
    assert "KVM_EXIT_HLT" in run._repr_html_()
    dead = lab.run_guest("triple-fault")
    assert "Likely cause" in repr(dead)
    assert "ud2" in dead._repr_html_()


def test_the_lab_brings_what_a_notebook_needs() -> None:
    names: dict[str, object] = {}
    exec("from minivmm.lab import *", names)  # as the first cell of every notebook does
    for name in (
        "ioctl",
        "open_kvm",
        "mmap_run",
        "struct",
        "KVM_RUN",
        "KVM_EXIT_IO",
        "check",
        "predict",
        "show",
        "Machine",
    ):
        assert name in names, name
