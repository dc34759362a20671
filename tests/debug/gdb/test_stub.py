"""The commands of the protocol, on a machine made up for the test."""

from __future__ import annotations

import copy
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivmm.debug.gdb import Abilities, Action, Reason, StopEvent
from minivmm.debug.gdb.features import description
from minivmm.debug.gdb.packets import packet
from minivmm.debug.gdb.parse import Leave, Resume, Say
from minivmm.debug.gdb.session import Session
from minivmm.debug.gdb.stops import foreign, mode_changed, stop_reply
from minivmm.debug.gdb.stub import COMMANDS, handle
from minivmm.exits import Debug
from minivmm.kvm import constants as k

sys.path.append(str(Path(__file__).parents[1]))
from fake_machine import FakeMachine

STEPPED, HIT_0, HIT_1 = 0xFFFF_4FF0, 0xFFFF_0FF1, 0xFFFF_0FF2  # DR6
ALONE = Abilities(hardware=False, watch=False)  # nothing but 0xCC


class Gdb:
    """A gdb at the other end: packets in, answers out."""

    def __init__(self, mode: str = "long", abilities: Abilities | None = None) -> None:
        self.machine = FakeMachine(mode, abilities=abilities)
        self.session = Session(self.machine, monitor=str.upper)

    def __call__(self, command: str | bytes) -> str:
        answer = handle(self.session, command.encode() if isinstance(command, str) else command)
        assert isinstance(answer, bytes), answer
        return answer.decode("latin-1")

    def number(self, name: str) -> int:
        return [one.name for one in self.session.description.registers].index(name)

    def register(self, name: str) -> int:
        return int.from_bytes(bytes.fromhex(self(f"p{self.number(name):x}")), "little")

    def set(self, name: str, value: int) -> str:
        size = self.session.description.registers[self.number(name)].size
        return self(f"P{self.number(name):x}={value.to_bytes(size, 'little').hex()}")

    def stopped(self, exception: int, pc: int, dr6: int, cpu: int = 0) -> StopEvent:
        event = StopEvent(cpu, Reason.DEBUG, Debug(exception, pc, dr6, 0))
        self.session.stopped(event)
        return event


@pytest.fixture
def gdb() -> Gdb:
    return Gdb()


# ---- who is there ----


def test_features_that_are_offered(gdb: Gdb) -> None:
    offered = gdb("qSupported:multiprocess+;swbreak+;hwbreak+").split(";")
    assert {"PacketSize=4000", "qXfer:features:read+", "vContSupported+", "QStartNoAckMode+"} <= set(offered)
    assert gdb.session.reports >= {"swbreak", "hwbreak"}


def test_threads(gdb: Gdb) -> None:
    assert gdb("qfThreadInfo") == "m1,2"
    assert gdb("qsThreadInfo") == "l"
    assert gdb("qC") == "QC1"
    assert bytes.fromhex(gdb("qThreadExtraInfo,2")) == b"vCPU 1, real"
    assert (gdb("T1"), gdb("T2")) == ("OK", "OK")
    assert gdb("T3") == "E.there is no thread 3: this machine has 2 vCPU(s)"


def test_the_selected_thread_is_the_one_that_is_read(gdb: Gdb) -> None:
    gdb.machine.cpus[1].regs.rip = 0x1234
    assert gdb.register("rip") == 0xFFF0
    assert gdb("Hg2") == "OK"
    assert gdb.register("rip") == 0x1234
    assert gdb("Hg0") == gdb("Hg-1") == gdb("Hc-1") == gdb("Hc1") == "OK"
    assert gdb.register("rip") == 0x1234
    assert gdb("Hg1") == "OK"
    assert gdb.register("rip") == 0xFFF0


@pytest.mark.parametrize("command", ["vMustReplyEmpty", "", "!", "qTStatus", "QNonStop:1", "Z9,0,1", "Z3,0,1"])
def test_what_we_do_not_have_gets_the_empty_answer(gdb: Gdb, command: str) -> None:
    assert gdb(command) == ""


def test_monitor(gdb: Gdb) -> None:
    assert handle(gdb.session, b"qRcmd," + b"where".hex().encode()) == Say("WHERE\n")
    assert gdb("qRcmd,xyz") == "E.bytes in hex were expected"
    gdb.session.monitor = None
    assert gdb("qRcmd,00") == ""


def test_leaving(gdb: Gdb) -> None:
    assert handle(gdb.session, b"D") == Leave(kill=False)
    assert handle(gdb.session, b"k") == handle(gdb.session, b"vKill;1") == Leave(kill=True)


# ---- registers ----


@pytest.mark.parametrize(
    ("mode", "bits", "name"), [("long", 64, "i386:x86-64"), ("protected", 32, "i386"), ("real", 16, "i8086")]
)
def test_the_description_fits_the_mode(mode: str, bits: int, name: str) -> None:
    gdb = Gdb(mode)
    assert gdb.session.description is description(bits)
    document = "".join(_pieces(gdb))
    tree = ElementTree.fromstring(document)
    assert tree.findtext("architecture") == name
    registers = tree.findall("feature/reg")
    assert sum(int(one.attrib["bitsize"]) for one in registers) // 4 == len(gdb("g"))
    assert [one.attrib["name"] for one in registers] == [one.name for one in gdb.session.description.registers]


def _pieces(gdb: Gdb) -> list[str]:
    pieces = [gdb("qXfer:features:read:target.xml:0,400")]
    while pieces[-1].startswith("m"):
        pieces.append(gdb(f"qXfer:features:read:target.xml:{0x400 * len(pieces):x},400"))
    assert len(pieces) > 1
    return [piece[1:] for piece in pieces]


def test_other_documents(gdb: Gdb) -> None:
    assert gdb("qXfer:features:read:other.xml:0,10").startswith("E.")
    assert gdb("qXfer:features:read:target.xml:0").startswith("E.")
    assert gdb("qXfer:features:read:target.xml:ffffffff,10") == "l"


def test_all_registers_at_once(gdb: Gdb) -> None:
    gdb.machine.cpus[0].regs.rbx = 0x1122334455667788
    all_of_them = gdb("g")
    assert all_of_them[16:32] == "8877665544332211"
    changed = all_of_them[:32] + "0100000000000000" + all_of_them[48:]
    assert gdb("G" + changed) == "OK"
    assert gdb.machine.cpus[0].regs.rcx == 1
    assert gdb.machine.cpus[0].regs.rbx == 0x1122334455667788
    assert gdb("G" + changed[:-2]) == "E.that is not all of the registers"


@pytest.mark.parametrize("mode", ["long", "protected", "real"])
def test_every_register_can_be_set_and_read_back(mode: str) -> None:
    gdb = Gdb(mode)
    unsettable = {"fiseg", "fioff", "foseg", "fooff", "cr0", "cs", "ss", "ds", "es", "fs", "gs"}
    for n, one in enumerate(gdb.session.description.registers):
        if one.name in unsettable:
            continue
        width = {"fctrl": 16, "fstat": 16, "fop": 16, "gdtr_limit": 16, "idtr_limit": 16}.get(
            one.name, min(one.bits, 64)
        )
        value = (0x0123_4567_89AB_CDEF + n) & (1 << width) - 1
        if one.name == "ftag":
            value = 0b1100_1111_0000_1100
        assert gdb.set(one.name, value) == "OK", one.name
        gdb.session.forget()
        assert gdb.register(one.name) == value, one.name


def test_a_segment_register_is_loaded_whole() -> None:
    gdb = Gdb("protected")
    assert gdb.set("ds", 0x23) == "OK"
    ds = gdb.machine.cpus[0].sregs.ds
    assert (ds.selector, ds.dpl, ds.limit) == (0x23, 3, 0xFFFF_FFFF)
    assert "beyond the GDT" in gdb.set("es", 0x80)
    assert gdb.register("es") == 0x10
    real = Gdb("real")
    assert real.set("ds", 0x1234) == "OK"
    assert real.machine.cpus[0].sregs.ds.base == 0x12340
    assert real.set("ds", 0x12345) == "E.0x12345 is not a selector: those have 16 bits"


def test_a_state_that_is_refused_leaves_the_old_one(gdb: Gdb) -> None:
    gdb = Gdb("protected")
    assert gdb.set("cr0", 0x8000_0000) == "E.CR0.PG needs CR0.PE"
    assert gdb.register("cr0") == 0x11
    assert gdb.set("rsp" if "rsp" in gdb.session.description.xml else "esp", 5) == "OK"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("pffff", "E.there is no register 65535"),
        ("pxyz", "E.a number in hex was expected"),
        ("p", "E.a number in hex was expected"),
        ("P0=00", "E.rax has 8 bytes, not 1"),
        ("P0", "E.rax has 8 bytes, not 0"),
        ("P0=0", "E.bytes in hex were expected"),
        ("p" + "0" * 17, "E.a number in hex was expected"),
    ],
)
def test_registers_that_are_not_there(gdb: Gdb, command: str, answer: str) -> None:
    assert gdb(command) == answer


def test_a_kvm_without_fpu_shows_unknown_registers(gdb: Gdb) -> None:
    gdb.session.registers(0).__dict__["fpu"] = None
    assert gdb(f"p{gdb.number('st0'):x}") == "xx" * 10
    assert "xx" in gdb("g")
    assert gdb.set("xmm0", 1) == "E.this KVM does not let us set xmm0"


def test_the_tag_word() -> None:
    gdb = Gdb()
    assert gdb.register("ftag") == 0xFFFF  # all empty
    gdb.machine.cpus[0].fpu.ftwx = 0b1000_0001
    assert gdb.register("ftag") == 0b0011_1111_1111_1100


# ---- memory ----


def test_memory_is_read_and_written_by_virtual_address(gdb: Gdb) -> None:
    gdb.machine.memory.write(0x2000, b"virtual")
    assert bytes.fromhex(gdb("m400000,7")) == b"virtual"
    assert gdb("M400002,2:5859") == "OK"  # the guest may not write there; a debugger may
    assert gdb.machine.memory.read(0x2000, 7) == b"viXYual"
    assert gdb(b"X400000,3:\x00$#") == "OK"
    assert gdb.machine.memory.read(0x2000, 4) == b"\x00$#Y"
    assert gdb("X400000,0:") == "OK"


def test_memory_that_ends(gdb: Gdb) -> None:
    assert len(gdb("m400ff0,40")) == 32  # as much as there is
    assert gdb("m500000,4") == "E0e"
    assert gdb("m8000000000000000,4") == "E0e"
    assert gdb("mffffffffffffffff,ff") == "E0e"
    gdb.machine.memory.write(0x2FFE, b"ab")
    assert gdb("M400ffe,4:00000000") == "E0e"
    assert gdb.machine.memory.read(0x2FFE, 2) == b"ab"  # all or nothing


def test_memory_that_smap_keeps_the_kernel_out_of(gdb: Gdb) -> None:
    gdb.machine.memory.write(0x3000, b"user")
    assert bytes.fromhex(gdb("m420000,4")) == b"user"
    assert gdb("M420000,1:55") == "OK"


def test_memory_across_pages(gdb: Gdb) -> None:
    gdb.machine.memory.write(0x2FFE, b"abcd")
    assert bytes.fromhex(gdb("m2ffe,4")) == b"abcd"
    assert gdb("M2fff,2:5859") == "OK"
    assert gdb.machine.memory.read(0x2FFE, 4) == b"aXYd"


def test_a_huge_length_is_cut_to_what_fits(gdb: Gdb) -> None:
    assert 0x1000 < len(gdb("m0,ffffffffffffffff")) < 0x4000


@pytest.mark.parametrize(
    "command", ["m", "m1", "m1,", "m,1", "m-1,4", "m0x10,4", "M0,4:00", "M0,1:0", "M0,1", "X0,2:a"]
)
def test_memory_commands_that_are_wrong(gdb: Gdb, command: str) -> None:
    assert gdb(command).startswith("E.")


# ---- points ----


def test_four_points_in_the_debug_registers(gdb: Gdb) -> None:
    for command in ("Z0,1000,1", "Z1,1004,1", "Z2,2000,4", "Z4,3000,8"):
        assert gdb(command) == "OK"
        assert gdb(command) == "OK"  # again changes nothing
    gdb.session.arm({0: Action.CONTINUE, 1: Action.STEP})
    control, registers = gdb.machine.cpus[0].debug
    assert control == k.KVM_GUESTDBG_ENABLE | k.KVM_GUESTDBG_USE_HW_BP
    assert registers[:4] == [0x1000, 0x1004, 0x2000, 0x3000]
    assert registers[7] == 0x600 | 0b10101010 | 0b1101 << 24 | 0b1011 << 28
    assert gdb.machine.cpus[1].debug == (control | k.KVM_GUESTDBG_SINGLESTEP, registers)
    assert gdb("Z1,5000,1") == "E.all four debug registers are in use: delete a breakpoint first"
    assert gdb("z1,1004,1") == gdb("z1,1004,1") == gdb("Z1,5000,1") == "OK"


def test_nothing_to_debug_tells_kvm_so(gdb: Gdb) -> None:
    gdb.session.arm({0: Action.CONTINUE})
    assert gdb.machine.cpus[0].debug == (0, [0] * 8)


def test_a_step_keeps_interrupts_out_where_kvm_can() -> None:
    gdb = Gdb(abilities=Abilities(block_interrupts=True))
    gdb.session.arm({0: Action.STEP})
    steps = k.KVM_GUESTDBG_ENABLE | k.KVM_GUESTDBG_SINGLESTEP | k.KVM_GUESTDBG_BLOCKIRQ
    assert gdb.machine.cpus[0].debug[0] == steps


def test_an_odd_range_is_watched_in_pieces(gdb: Gdb) -> None:
    assert gdb("Z2,2001,7") == "OK"  # 1 + 2 + 4
    gdb.session.arm({0: Action.CONTINUE})
    _, registers = gdb.machine.cpus[0].debug
    assert registers[:4] == [0x2001, 0x2002, 0x2004, 0]
    assert registers[7] >> 16 == 0b1101_0101_0001
    assert "can't hold it" in gdb("Z2,3001,10")
    assert "can't hold it" in gdb("Z2,3000,ffffffffffffff")
    assert gdb("z2,2001,7") == "OK"
    gdb.session.arm({0: Action.CONTINUE})
    assert gdb.machine.cpus[0].debug == (0, [0] * 8)


def test_a_fifth_breakpoint_is_an_int3_that_nobody_sees(gdb: Gdb) -> None:
    memory = gdb.machine.memory
    memory.write(0x2000, b"\x90\x91\x92\x93")
    for address in range(0x1000, 0x1004):
        assert gdb(f"Z0,{address:x},1") == "OK"
    assert gdb("Z0,400001,1") == "OK"
    assert memory.read(0x2000, 4) == b"\x90\xcc\x92\x93"
    assert gdb("m400000,4") == gdb("m2000,4") == "90919293"  # by either of its addresses
    assert gdb("M400000,3:aabbcc") == "OK"
    assert memory.read(0x2000, 4) == b"\xaa\xcc\xcc\x93"
    assert gdb("m400000,4") == "aabbcc93"
    gdb.session.arm({0: Action.CONTINUE})
    assert gdb.machine.cpus[0].debug[0] & k.KVM_GUESTDBG_USE_SW_BP
    assert gdb("z0,400001,1") == "OK"
    assert memory.read(0x2000, 4) == b"\xaa\xbb\xcc\x93"
    assert gdb("Z0,500000,1") == "E0e"


def test_clearing_takes_every_trace_away() -> None:
    gdb = Gdb(abilities=ALONE)
    gdb.machine.memory.write(0x1000, b"\x90\x90")
    assert gdb("Z0,1000,1") == gdb("Z0,1001,1") == "OK"
    gdb.session.points.clear()
    assert gdb.machine.memory.read(0x1000, 2) == b"\x90\x90"


@pytest.mark.parametrize(
    ("abilities", "command", "answer"),
    [
        (ALONE, "Z1,1000,1", "E.this host's KVM has no breakpoints"),
        (Abilities(watch=False), "Z2,1000,1", "E.this host's KVM has no watchpoints"),
        (Abilities(watch=False), "Z4,1000,1", "E.this host's KVM has no watchpoints"),
        (Abilities(hardware=False, software=False), "Z0,1000,1", "E.this host's KVM has no breakpoints"),
        (Abilities(), "Z3,1000,1", ""),  # gdb then tries Z4
    ],
)
def test_points_that_a_backend_lacks(abilities: Abilities, command: str, answer: str) -> None:
    assert Gdb(abilities=abilities)(command)[: len(answer) or None] == answer


def test_a_backend_that_cannot_step() -> None:
    gdb = Gdb(abilities=Abilities(step=False))
    assert gdb("vCont;s:1;c") == "E.this backend can't step: set a breakpoint and continue"
    assert handle(gdb.session, b"c") == Resume(dict.fromkeys((0, 1), Action.CONTINUE))


# ---- stops ----


def test_stop_replies(gdb: Gdb) -> None:
    assert gdb("?") == "T02thread:1;"
    gdb("qSupported:swbreak+;hwbreak+")
    assert gdb("Z0,1000,1") == gdb("Z2,2000,4") == gdb("Z4,3000,1") == gdb("Z1,1004,1") == "OK"
    for dr6, why in ((HIT_0, "swbreak:;"), (HIT_1, "watch:2000;"), (0xFF4, "awatch:3000;"), (0xFF8, "hwbreak:;")):
        gdb.stopped(1, 0x1000, dr6, cpu=1)
        assert gdb("?") == f"T05{why}thread:2;"
    gdb.stopped(1, 0x1002, STEPPED)
    assert gdb("?") == "T05thread:1;"
    gdb.session.stopped(StopEvent(0, Reason.DIED, code=125, text="why"))
    assert gdb("?") == "T0bthread:1;"
    gdb.session.stopped(StopEvent(0, Reason.ENDED, code=33))
    assert gdb("?") == "W21"


def test_an_old_gdb_hears_only_of_a_trap(gdb: Gdb) -> None:
    gdb("qSupported:multiprocess+")
    gdb("Z0,1000,1")
    gdb.stopped(1, 0x1000, HIT_0)
    assert gdb("?") == "T05thread:1;"


def test_the_guests_own_exceptions_go_back_to_it() -> None:
    gdb = Gdb(abilities=ALONE)
    gdb("Z0,1000,1")
    go, step = Action.CONTINUE, Action.STEP
    assert foreign(gdb.session, gdb.stopped(3, 0x1000, 0), go) is None
    assert foreign(gdb.session, gdb.stopped(3, 0x1001, 0), go) == k.KVM_GUESTDBG_INJECT_BP
    assert foreign(gdb.session, gdb.stopped(1, 0x1001, STEPPED), step) is None
    assert foreign(gdb.session, gdb.stopped(1, 0x1001, STEPPED), go) == k.KVM_GUESTDBG_INJECT_DB
    assert foreign(gdb.session, StopEvent(0, Reason.ASKED), go) is None
    gdb.session.arm({0: go, 1: go}, k.KVM_GUESTDBG_INJECT_DB)
    assert gdb.machine.cpus[0].debug[0] & k.KVM_GUESTDBG_INJECT_DB
    assert not gdb.machine.cpus[1].debug[0] & k.KVM_GUESTDBG_INJECT_DB


def test_a_guest_that_changes_its_mode(gdb: Gdb) -> None:
    assert mode_changed(gdb.session) == ""
    gdb.stopped(1, 0x1000, STEPPED, cpu=1)
    assert "the guest is i8086 by now, and gdb takes it for i386:x86-64" in mode_changed(gdb.session)


# ---- going on ----


@pytest.mark.parametrize(
    ("command", "actions"),
    [
        ("c", {0: Action.CONTINUE, 1: Action.CONTINUE}),
        ("C05", {0: Action.CONTINUE, 1: Action.CONTINUE}),
        ("s", {0: Action.STEP}),
        ("S05", {0: Action.STEP}),
        ("vCont;c", {0: Action.CONTINUE, 1: Action.CONTINUE}),
        ("vCont;c:-1", {0: Action.CONTINUE, 1: Action.CONTINUE}),
        ("vCont;s:1;c", {0: Action.STEP, 1: Action.CONTINUE}),
        ("vCont;s:2", {1: Action.STEP}),
        ("vCont;C05:2;S05:1", {0: Action.STEP, 1: Action.CONTINUE}),
        ("vCont;s:1;c:1", {0: Action.STEP}),
    ],
)
def test_going_on(gdb: Gdb, command: str, actions: dict[int, Action]) -> None:
    assert handle(gdb.session, command.encode()) == Resume(actions)


def test_going_on_from_somewhere_else(gdb: Gdb) -> None:
    assert handle(gdb.session, b"s1234") == Resume({0: Action.STEP})
    assert gdb.machine.cpus[0].regs.rip == 0x1234
    assert handle(gdb.session, b"C05;4321") == Resume(dict.fromkeys((0, 1), Action.CONTINUE))
    assert gdb.machine.cpus[0].regs.rip == 0x4321


@pytest.mark.parametrize("command", ["vCont", "vCont;", "vCont;t", "vCont;r1,2", "vCont;s:3", "vCont;s:p1.1", "cxyz"])
def test_no_way_to_go_on(gdb: Gdb, command: str) -> None:
    assert gdb(command).startswith("E.")
    assert gdb("vCont?") == "vCont;c;C;s;S"


def test_a_dead_guest_can_be_looked_at_and_then_is_over(gdb: Gdb) -> None:
    gdb.session.stopped(StopEvent(0, Reason.DIED, code=125, text="why"))
    assert gdb.register("rip") == 0xFFF0
    assert gdb("vCont;c") == "W7d"
    assert stop_reply(gdb.session) == b"W7d"


# ---- anything ----

NUMBERS = st.sampled_from(
    ["", "0", "1", "2", "3", "-1", "ff", "1000", "400000", "ffffffffffffffff", "p1.1", "g", "+1", "1_0"]
)
PARTS = st.lists(NUMBERS | st.sampled_from([",", ";", ":", "=", "target.xml"]) | st.text(max_size=5), max_size=8)
PACKETS = st.builds(
    lambda command, parts: command + "".join(parts).encode(), st.sampled_from([name for name, _ in COMMANDS]), PARTS
)


@given(st.lists(PACKETS | st.binary(max_size=40), max_size=20), st.sampled_from(["long", "protected", "real"]))
def test_no_packet_does_harm(packets: list[bytes], mode: str) -> None:
    gdb = Gdb(mode)
    before = copy.copy(gdb.machine.memory.bytes)
    for data in packets:
        answer = handle(gdb.session, data)
        assert isinstance(answer, bytes | Resume | Leave | Say)
        if isinstance(answer, bytes):
            assert len(packet(answer)) <= 0x4000 + 4
            assert re.match(rb"E(0e|\.[ -~]+)$", answer) or not answer.startswith(b"E")
    if not any(data[:1] in b"MXPG" for data in packets):
        gdb.session.points.clear()
        assert gdb.machine.memory.bytes == before
