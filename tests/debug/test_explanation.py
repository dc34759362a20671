"""What an explanation shows, and that there is always one."""

from __future__ import annotations

import errno
import random
from html.parser import HTMLParser
from typing import Any

from deaths import Dead, dead
from hypothesis import given, settings
from hypothesis import strategies as st

from minivmm import exits
from minivmm.debug import Explanation, Section, explain
from minivmm.kvm import constants as k
from minivmm.kvm.constants import KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES as HAS_BYTES
from minivmm.kvm.errors import KvmError
from minivmm.x86.state import Regs, Sregs


def section(explanation: Explanation, title: str) -> str:
    return "\n".join(next(each for each in explanation.sections if each.title.startswith(title)).lines)


def walked(explanation: Explanation) -> str:
    return next(each.title for each in explanation.sections if each.title.startswith("The page walk"))


def test_it_shows_code_walk_registers_and_exits() -> None:
    guest = dead("long", "48 8b 00 f4", rax=0x40000000)
    explanation = guest.explain(history=(exits.PortOut(0x80, 1, 1, b"A"),) * 5)
    code = section(explanation, "The code at RIP").splitlines()
    assert code[0] == "0x1000: 48 8b 00  mov rax, qword ptr [rax]    <- RIP"
    assert code[1] == "0x1003: f4        hlt"
    walk = section(explanation, "The page walk of 0x40000000, which the instruction reads")
    assert "PDPT 0x81000[1]" in walk
    assert "#PF, error code 0x0" in walk
    registers = section(explanation, "The registers")
    assert "mode   long 64-bit" in registers
    assert "RAX 0000000040000000" in registers
    assert section(explanation, "The last exits") == "out8 port 0x80: 41  × 5\nKVM_EXIT_SHUTDOWN"
    text = str(explanation)
    assert text.startswith("The guest died: KVM_EXIT_SHUTDOWN.\nLikely cause: `mov rax")
    assert "\nWhat to do: " in text
    assert "\nSource: SDM" in text


def test_the_walk_is_of_the_address_that_failed() -> None:
    assert walked(dead("long", "0f 0b").explain()) == "The page walk of 0x1000, where RIP points"
    assert walked(dead("long", rip=0x40000000).explain()) == "The page walk of 0x40000000, where RIP points"
    stack = dead("long", "50", rsp=0x200010)
    assert walked(stack.explain()) == "The page walk of 0x200008, which the instruction pushes to"
    mapped = dead("long", "48 8b 00", rax=0x3000)
    assert walked(mapped.explain()) == "The page walk of 0x3000, which the instruction reads"
    fault = dead("long", "90 " * 15)
    fault.sregs.cr2 = 0x12345678
    assert walked(fault.explain()) == "The page walk of 0x12345678, the address in CR2"
    fault.sregs.cr2 = 0x1234  # that has a page now: an old fault, which was served
    assert walked(fault.explain()) == "The page walk of 0x1000, where RIP points"


def test_a_walk_into_a_hole_says_so() -> None:
    guest = dead("long", "48 8b 00", rax=0x180000)
    assert "the VM has no memory slot there" in section(guest.explain(), "The page walk of 0x180000")


def test_what_kvm_saw_is_shown_where_memory_says_otherwise() -> None:
    guest = dead("long", "90 " * 15)
    words = tuple(int.from_bytes(b"\x02\xcd\x40".ljust(16, b"\0")[at : at + 8], "little") for at in (0, 8))
    failure = exits.InternalError(1, (HAS_BYTES, *words))
    assert "KVM saw other bytes here: cd 40  int 0x40" in section(guest.explain(failure), "The code")
    same = dead("long", "cd 40" + "90" * 15)
    assert "other bytes" not in section(same.explain(failure), "The code")


def test_code_that_cannot_be_fetched_is_said_so() -> None:
    explanation = dead("long", rip=0x40000000).explain()
    assert section(explanation, "The code").startswith("nothing can be fetched at 0x40000000, which the page tables")


def test_registers_after_a_reset_are_marked() -> None:
    explanation = Dead(Regs(), Sregs()).explain()
    assert any("KVM has reset them" in each.title for each in explanation.sections)
    assert not any("reset" in each.title for each in dead("real", "0f 0b").explain().sections)
    halted = Dead(Regs(), Sregs()).explain(exits.Rare(k.KVM_EXIT_NOTIFY))
    assert not any("KVM has reset" in each.title for each in halted.sections)


def test_lines_are_wrapped_at_100_columns_and_short_ones_left_alone() -> None:
    lines = ("a" * 98, "word " * 40, "  two   columns")
    text = Explanation("exit", "cause " * 30, sections=(Section("T", lines),)).text().splitlines()
    assert max(map(len, text)) <= 100
    assert "  " + "a" * 98 in text
    assert "    two   columns" in text


class Checker(HTMLParser):
    """Fails on a tag that is not ours, or is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in ("table", "tbody", "tr", "th", "td", "strong", "em", "pre")
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_notebook_shows_a_table_with_every_word_escaped() -> None:
    evil = "<script>alert(1)</script> & <b>"
    explanation = Explanation(evil, evil, evil, evil, (Section(evil, (evil, "second")),))
    html = explanation._repr_html_()
    assert "<script" not in html
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert checker.text.count(evil) == 6
    assert html.count("<tr>") == 5
    assert Explanation("exit", "cause")._repr_html_().count("<tr>") == 2


def test_a_closed_vcpu_still_has_its_exits() -> None:
    class Closed(Dead):
        def get_regs(self) -> Regs:
            raise KvmError("KVM_GET_REGS", errno.EBADF)

    explanation = Closed(Regs(), Sregs()).explain(history=(exits.Halted(),))
    assert "can't be read any more" in explanation.cause
    assert section(explanation, "The last exits") == "KVM_EXIT_HLT\nKVM_EXIT_SHUTDOWN"


def test_exceptions_that_kvm_does_not_tell_are_no_hindrance() -> None:
    class Silent(Dead):
        def get_events(self) -> Any:
            raise KvmError("KVM_GET_VCPU_EVENTS", errno.EINVAL)

    guest = dead("long", "0f 0b")
    assert "`ud2`" in Silent(guest.regs, guest.sregs, guest.ram).explain().cause


class Broken:
    """Memory that fails in a way nobody foresaw."""

    def read(self, gpa: int, size: int) -> bytes:
        raise RuntimeError("the disk is on fire")

    write = read


def test_nothing_at_all_makes_it_raise() -> None:
    guest = dead("long", "0f 0b")
    explanation = explain(guest, Broken(), exits.Shutdown(), ())  # type: ignore[arg-type]
    assert explanation.cause
    assert explanation.text()

    class Unprintable(exits.Shutdown):
        def __str__(self) -> str:
            raise RuntimeError

    assert guest.explain(Unprintable()).exit == "an exit that can't be shown"


WORDS = st.integers(0, (1 << 64) - 1)
ODD = st.sampled_from(
    [
        exits.Shutdown(),
        exits.InternalError(1, ()),
        exits.InternalError(1, (1, 0xFFFF_FFFF_FFFF_FFFF, 3)),
        exits.InternalError(3, (1,) * 16),
        exits.FailEntry(0x8000_0021, 1),
        exits.Unknown(77, 1),
        exits.PortOut(1, 1, 1, b""),
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from(["real", "protected", "long"]), st.binary(max_size=30), ODD, st.data())
def test_any_state_and_any_memory_are_explained(
    seed: int, mode: str, code: bytes, exit: exits.Exit, data: st.DataObject
) -> None:
    guest = dead(mode, code.hex())
    chance = random.Random(seed)
    for name in ("rax", "rsp", "rip", "rflags", "rdi"):
        if chance.random() < 0.5:
            setattr(guest.regs, name, data.draw(WORDS))
    for name in ("cr0", "cr2", "cr3", "cr4", "efer"):
        if chance.random() < 0.3:
            setattr(guest.sregs, name, data.draw(WORDS))
    for table in (guest.sregs.gdt, guest.sregs.idt):
        if chance.random() < 0.5:
            table.base, table.limit = data.draw(WORDS), data.draw(st.integers(0, 0xFFFF))
    if chance.random() < 0.3:
        guest.ram.data = bytearray(chance.randbytes(0x2000))
    guest.vector = data.draw(st.integers(0, 255))
    explanation = guest.explain(exit)
    assert explanation.cause.endswith(".")
    assert max(map(len, explanation.text().splitlines())) <= 100
    Checker().feed(explanation._repr_html_())
