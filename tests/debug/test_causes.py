"""Each cause on a guest that died of it: the sentence names what happened, the source says where that is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from deaths import GDT, PD, RAM, Dead, dead

from minivmm import exits
from minivmm.debug import evidence as evidence_module
from minivmm.kvm import constants as k
from minivmm.kvm.constants import KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES as HAS_BYTES
from minivmm.kvm.host import Host
from minivmm.x86 import Gate
from minivmm.x86.state import Regs, Sregs

NOP = "90 " * 15
IDT = 0x6000
HANDLER = 0x5000


def on(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    host = Host("Linux", "x86_64", "", True, False, "", modules, "", "ok", "kvm")
    monkeypatch.setattr(evidence_module.host, "look", lambda: host)


@pytest.fixture(autouse=True)
def bare_metal(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, "kvm", "kvm_intel")


def emulation_failure(code: str = "") -> exits.InternalError:
    data = bytes.fromhex(code)
    packed = (bytes([len(data)]) + data).ljust(16, b"\0")
    words = tuple(int.from_bytes(packed[at : at + 8], "little") for at in (0, 8))
    return exits.InternalError(1, (HAS_BYTES if code else 0, *words))


def with_idt(guest: Dead, vector: int, **changes: int) -> Dead:
    """Gives the guest an IDT of 32 gates with one filled in: to HANDLER, by the 64-bit code segment."""
    fields = {"offset": HANDLER, "selector": 0x18, **changes}
    guest.ram.write(IDT + 16 * vector, Gate(**fields).encode())
    guest.sregs.idt.base, guest.sregs.idt.limit = IDT, 32 * 16 - 1
    return guest


def mov_cr0(value: int, **sregs: int) -> Dead:
    guest = dead("protected", "0f 22 c0", rax=value)
    for name, number in sregs.items():
        setattr(guest.sregs, name, number)
    return guest


def running_zeros(mode: str) -> Dead:
    return dead(mode, rip=0x3000)


def at_gdt() -> Dead:
    return dead("long", rip=GDT + 8)


def compatibility(code: str) -> Dead:
    guest = dead("long", code)
    guest.sregs.cs.l, guest.sregs.cs.db = 0, 1
    return guest


def before_the_far_jump(code: str) -> Dead:
    guest = dead("real", code)
    guest.sregs.cr0 |= 1
    return guest


def edited(guest: Dead, change: Callable[[Dead], object]) -> Dead:
    change(guest)
    return guest


def set_fields(target: object, **values: int) -> None:
    for name, value in values.items():
        setattr(target, name, value)


def entry(table: int, index: int, value: int) -> Callable[[Dead], object]:
    return lambda guest: guest.ram.write(table + 8 * index, value.to_bytes(8, "little"))


DEATHS: dict[str, tuple[Callable[[], Dead], list[str]]] = {
    # ---- what was raised ----
    "ud2": (lambda: dead("long", "0f 0b"), ["`ud2` at 0x1000 raised #UD", "IDT (limit 0x0) has no gates"]),
    "int3": (lambda: dead("protected", "cc"), ["`int3`", "#BP", "no gates"]),
    "int n": (lambda: dead("long", "cd 40"), ["`int 0x40`", "interrupt 0x40"]),
    "bad bytes": (lambda: dead("long", "06" + NOP), ["the bytes 06 90 90 90 are no instruction"]),
    "div by zero": (lambda: dead("long", "f7 f1"), ["#DE", "divided by zero"]),
    "div by 8-bit zero": (lambda: dead("long", "f6 f4", rax=0x00FF), ["#DE", "`div ah`"]),
    "no div by zero": (lambda: dead("long", "f7 f1", rcx=2), ["triple fault in this guest", "no gates"]),
    "sse": (lambda: dead("long", "0f 28 c1"), ["#UD", "CR4.OSFXSR is 0"]),
    "sse, EM": (
        lambda: edited(dead("long", "0f 28 c1"), lambda g: set_fields(g.sregs, cr0=g.sregs.cr0 | 4, cr4=0x220)),
        ["#UD", "CR0.EM is 1"],
    ),
    "x87": (
        lambda: edited(dead("protected", "d9 e8"), lambda g: set_fields(g.sregs, cr0=g.sregs.cr0 | 8)),
        ["`fld1`", "#NM", "EM or TS"],
    ),
    "syscall": (lambda: dead("long", "0f 05"), ["`syscall`", "EFER.SCE is 0"]),
    "hlt in ring 3": (
        lambda: edited(dead("long", "f4"), lambda g: (set_fields(g.sregs.ss, dpl=3), entry(PD, 0, 0x87)(g))),
        ["`hlt`", "#GP", "ring 3"],
    ),
    "page not mapped": (
        lambda: dead("long", "48 8b 00", rax=0x40000000),
        ["`mov rax, qword ptr [rax]`", "#PF", "reads 0x40000000", "PDPT entry 1 has P=0"],
    ),
    "write to read-only page": (
        lambda: edited(dead("long", "48 89 01", rcx=0x200000), lambda g: (entry(PD, 1, 0x81)(g), set_wp(g))),
        ["writes to 0x200000", "R/W=0"],
    ),
    "second page of an operand": (
        lambda: dead("long", "48 8b 00", rax=0x1FFFFC),
        ["#PF", "reads 0x1ffffc", "PD entry 1 has P=0"],
    ),
    "not canonical": (
        lambda: dead("long", "48 8b 00", rax=0x8000_0000_0000_0000),
        ["#GP", "0x8000000000000000", "not a canonical address"],
    ),
    "stack not canonical": (
        lambda: edited(dead("long", "50"), lambda g: set_fields(g.regs, rsp=0x8000_0000_0000_0000)),
        ["#SS", "pushes to 0x7ffffffffffffff8", "not a canonical address"],
    ),
    "push to an unmapped stack": (
        lambda: edited(dead("long", "50"), lambda g: set_fields(g.regs, rsp=0x200010)),
        ["`push rax`", "pushes to 0x200008", "PD entry 1"],
    ),
    "pop from an unmapped stack": (
        lambda: edited(dead("long", "58"), lambda g: set_fields(g.regs, rsp=0x200008)),
        ["`pop rax`", "pops from 0x200008"],
    ),
    "indexed operand": (
        lambda: dead("long", "48 8b 44 98 10", rax=0x3FFF_FFF0, rbx=4),
        ["reads 0x40000010"],
    ),
    "32-bit address in 64-bit code": (
        lambda: dead("long", "67 8b 00", rax=0xFFFF_0000_4000_0000),
        ["reads 0x40000000"],
    ),
    "rip-relative operand": (lambda: dead("long", "48 8b 05 00 00 20 00"), ["reads 0x201007"]),
    "fs base": (
        lambda: edited(dead("long", "64 8b 00", rax=0x10), lambda g: set_fields(g.sregs.fs, base=0x4000_0000)),
        ["reads 0x40000010"],
    ),
    "es of a string destination": (
        lambda: edited(
            paged_32(dead("protected", "a4", rdi=8, rsi=8)), lambda g: set_fields(g.sregs.es, base=0x900000)
        ),
        ["writes to 0x900008"],
    ),
    "remembered by KVM": (
        lambda: edited(dead("long", NOP), lambda g: set_fields(g, vector=13, error_code=0x102)),
        ["`nop` at 0x1000 raised #GP", "error code 0x102", "IDT entry 0x20"],
    ),
    "CR2": (
        lambda: edited(dead("long", NOP), lambda g: set_fields(g.sregs, cr2=0x12345678)),
        ["he access to 0x12345678 (CR2)", "#PF", "PD entry 145 has P=0"],
    ),
    # ---- control registers, MSRs, selectors ----
    "PG without PE": (lambda: edited(mov_cr0(0x8000_0010), lambda g: None), ["CR0 = 0x80000010", "CR0.PE is not"]),
    "long mode without PAE": (lambda: mov_cr0(0x8000_0011, efer=0x100), ["set CR4.PAE"]),
    "rdmsr": (
        lambda: edited(dead("long", "0f 32", rcx=0x1234), lambda g: set_fields(g, vector=13, error_code=0)),
        ["KVM does not know MSR 0x1234"],
    ),
    "wrmsr": (
        lambda: edited(
            dead("long", "0f 30", rcx=0xC0000080, rax=0xFF, rdx=1), lambda g: set_fields(g, vector=13, error_code=0)
        ),
        ["refuses 0x1000000ff for EFER"],
    ),
    "selector beyond the GDT": (lambda: dead("protected", "8e d8", rax=0xF0), ["selector 0xf0 lies beyond the GDT"]),
    "null selector is no fault": (lambda: dead("protected", "8e d8", rax=0), ["Any exception is a triple fault"]),
    "data as code": (lambda: dead("protected", "ea 00 20 00 00 10 00"), ["entry 0x10 of the GDT is no code segment"]),
    "empty GDT": (
        lambda: edited(dead("protected", "ea 00 20 00 00 08 00"), lambda g: g.ram.write(GDT, bytes(48))),
        ["entry 0x8 of the GDT is no code segment"],
    ),
    "segment not present": (
        lambda: edited(dead("protected", "8e d8", rax=0x10), lambda g: g.ram.write(GDT + 0x15, b"\x13")),
        ["#NP", "entry 0x10 of the GDT has P=0"],
    ),
    "GDT in a hole": (
        lambda: edited(dead("protected", "8e d8", rax=0x10), lambda g: set_fields(g.sregs.gdt, base=0x500000)),
        ["the GDT at 0x500000 can't be read", "no memory slot"],
    ),
    "iretq with a data selector": (
        lambda: edited(
            dead("long", "48 cf"), lambda g: (set_fields(g.regs, rsp=0x5000), g.ram.write(0x5008, b"\x10\0"))
        ),
        ["`iretq`", "entry 0x10 of the GDT is no code segment"],
    ),
    # ---- what stood in the way of the handler ----
    "IDT too short": (
        lambda: edited(with_idt(dead("long", "0f 0b"), 6), lambda g: set_fields(g.sregs.idt, limit=6 * 16)),
        ["has room for 6 gates only"],
    ),
    "IDT not mapped": (
        lambda: edited(with_idt(dead("long", "0f 0b"), 6), lambda g: set_fields(g.sregs.idt, base=0x40000000)),
        ["the gate of #UD (undefined instruction) would lie at 0x40000060", "PDPT entry 1"],
    ),
    "IDT in a hole": (
        lambda: edited(with_idt(dead("long", "0f 0b"), 6), lambda g: set_fields(g.sregs.idt, base=0x180000)),
        ["would lie at 0x180060", "no memory slot"],
    ),
    "gate empty": (lambda: with_idt(dead("long", "0f 0b"), 3), ["gate 6 is empty (all zeros)"]),
    "no gate": (
        lambda: edited(with_idt(dead("long", "0f 0b"), 6), lambda g: g.ram.write(IDT + 6 * 16 + 5, b"\x93")),
        ["entry 6 is no gate"],
    ),
    "gate not present": (lambda: with_idt(dead("long", "0f 0b"), 6, present=0), ["gate 6", "has P=0"]),
    "gate to 32-bit code": (
        lambda: with_idt(dead("long", "0f 0b"), 6, selector=8),
        ["code segment 0x8", "must have L=1 and D=0"],
    ),
    "gate to data": (lambda: with_idt(dead("long", "0f 0b"), 6, selector=0x10), ["is no code segment"]),
    "gate beyond the GDT": (lambda: with_idt(dead("long", "0f 0b"), 6, selector=0x70), ["lies beyond the GDT"]),
    "gate to a segment not present": (
        lambda: edited(with_idt(dead("long", "0f 0b"), 6), lambda g: g.ram.write(GDT + 0x1D, b"\x1b")),
        ["that entry of the GDT has P=0"],
    ),
    "handler not canonical": (
        lambda: with_idt(dead("long", "0f 0b"), 6, offset=0x9000_0000_0000_0000),
        ["0x9000000000000000 in gate 6 is not canonical"],
    ),
    "stack in a hole": (
        lambda: edited(with_idt(dead("long", "0f 0b"), 6), lambda g: set_fields(g.regs, rsp=0x180000)),
        ["the stack RSP = 0x180000", "0x17ffff can't be written", "no memory slot"],
    ),
    "stack underflows its page": (
        lambda: edited(with_idt(dead("long", "0f 0b"), 6), lambda g: set_fields(g.regs, rsp=16)),
        ["the stack RSP = 0x10", "0xffffffffffffffe8 can't be written"],
    ),
    "IST without a TSS": (
        lambda: edited(with_idt(dead("long", "0f 0b"), 6, ist=1), lambda g: set_fields(g.sregs.tr, limit=0x2A)),
        ["wants the stack IST1 in the TSS", "ends at offset 0x2a"],
    ),
    "IST in a hole": (
        lambda: edited(
            with_idt(dead("long", "0f 0b"), 6, ist=2),
            lambda g: (
                set_fields(g.sregs.tr, base=0x4000, limit=0x67),
                g.ram.write(0x402C, (0x190000).to_bytes(8, "little")),
            ),
        ),
        ["IST2 in the TSS = 0x190000"],
    ),
    "RSP0 is zero": (
        lambda: edited(
            with_idt(dead("long", "0f 0b"), 6),
            lambda g: (
                set_fields(g.sregs.ss, dpl=3),
                entry(PD, 0, 0x87)(g),
                set_fields(g.sregs.tr, base=0x4000, limit=0x67),
            ),
        ),
        ["RSP0 in the TSS = 0x0", "0xffffffffffffffff can't be written"],
    ),
    "handler found": (lambda: with_idt(dead("long", "0f 0b"), 6), ["a further exception on the way to its handler"]),
    "real mode, short table": (
        lambda: edited(dead("real", "0f 0b"), lambda g: set_fields(g.sregs.idt, limit=0x19)),
        ["vector table ends at offset 0x19"],
    ),
    # ---- where RIP points ----
    "jump to an unmapped page": (
        lambda: dead("long", rip=0x40000000, size=RAM),
        ["RIP is 0x40000000", "PDPT entry 1 has P=0"],
    ),
    "null pointer": (
        lambda: edited(dead("long", rip=0), lambda g: entry(PD, 0, 0)(g)),
        ["RIP is 0x0, a jump through a null pointer", "PD entry 0 has P=0"],
    ),
    "RIP not canonical": (
        lambda: edited(dead("long"), lambda g: set_fields(g.regs, rip=0x1234_5678_9ABC_DEF0)),
        ["RIP is 0x123456789abcdef0", "not canonical"],
    ),
    "jump into a hole": (
        lambda: edited(dead("long"), lambda g: set_fields(g.regs, rip=0x180000)),
        ["RIP is 0x180000", "no memory slot", "nothing to execute"],
    ),
    "return through a hole": (
        lambda: edited(dead("protected"), lambda g: set_fields(g.regs, rip=0xFFFF_FFFF, rsp=0x180000)),
        ["returned to 0xffffffff, all ones", "stack pointer 0x180000"],
    ),
    "zeros": (lambda: running_zeros("long"), ["RIP is 0x3000", "only zeros", "`add [rax], al` (bytes 00 00)"]),
    "zeros, 16-bit": (lambda: running_zeros("real"), ["`add [bx+si], al`"]),
    "slid into data": (lambda: dead("long", "0f 0b", rip=0x3003), ["32 bytes before RIP 0x3003 are zeros"]),
    "in the GDT": (at_gdt, ["RIP is 0x7f008, inside the GDT (0x7f000 to 0x7f02f)"]),
    # ---- modes ----
    "64-bit code before the far jump": (
        lambda: compatibility("48 89 c3 48 8b 00"),
        ["Long mode is active but CS.L is 0", "`dec eax` would be a REX prefix"],
    ),
    "32-bit code that only looks like it": (lambda: compatibility("0f 0b 48 90"), ["`ud2`"]),
    "32-bit code before the far jump": (
        lambda: before_the_far_jump("b8 10 00 00 00"),
        ["CS still is the 16-bit segment of real mode", "`mov eax, 0x10` as 32-bit code"],
    ),
    # ---- AMD-V ----
    "reset": (lambda: Dead(Regs(), Sregs()), ["KVM has reset the vCPU", "triple fault"]),
    "nothing known": (lambda: with_idt(dead("long", NOP), 13), ["nothing in its state says which"]),
}


def set_wp(guest: Dead) -> None:
    guest.sregs.cr0 |= 1 << 16


def paged_32(guest: Dead) -> Dead:
    """32-bit paging with one 4 MiB page, for it is protected mode where segment bases count and pages can miss."""
    guest.ram.write(0x90000, (0x87).to_bytes(4, "little"))
    guest.sregs.cr0 |= 1 << 31
    guest.sregs.cr3, guest.sregs.cr4 = 0x90000, 1 << 4
    return guest


@pytest.mark.parametrize("name", DEATHS)
def test_a_triple_fault_names_its_cause(name: str) -> None:
    build, words = DEATHS[name]
    explanation = build().explain()
    for word in words:
        assert word in explanation.cause
    assert explanation.cause.endswith(".")
    assert explanation.source
    assert explanation.remedy
    assert max(map(len, explanation.text().splitlines())) <= 100


EXITS: dict[str, tuple[exits.Exit, str, str, list[str]]] = {
    "emulator": (emulation_failure("0f 28 c1"), "long", "0f 28 c1", ["had to emulate `movaps xmm0, xmm1`", "MMIO"]),
    "emulator, no bytes": (emulation_failure(), "long", "0f 28 c1", ["`movaps xmm0, xmm1` at 0x1000"]),
    "emulator, bad": (emulation_failure("06 07"), "long", "06 07", ["06 07", "no 64-bit instruction"]),
    "vmcall": (emulation_failure("0f 01 c1"), "long", "0f 01 c1", ["hypercall (`vmcall` at 0x1000)"]),
    "simultaneous": (exits.InternalError(2, ()), "long", "90", ["second exception"]),
    "delivery": (exits.InternalError(3, ()), "long", "90", ["could not deliver", "most often because the IDT"]),
    "unknown suberror": (exits.InternalError(4, ()), "long", "90", ["internal error 4"]),
    "failed entry, sound": (exits.FailEntry(0x8000_0021, 0), "long", "90", ["calls the guest state invalid"]),
    "failed entry, other": (exits.FailEntry(0x22, 0), "long", "90", ["gives the reason 0x22"]),
    "hypercall": (exits.Hypercall(12, ()), "long", "90", ["hypercall 12", "serves none"]),
    "debug": (exits.Debug(1, 0x1234, 0, 0), "long", "90", ["single step at 0x1234"]),
    "exception": (exits.GuestException(13, 8), "long", "90", ["#GP (general protection), error code 0x8"]),
    "memory fault": (exits.MemoryFault(0x5000, 4096, 0), "long", "90", ["host memory behind guest-physical 0x5000"]),
    "crash": (exits.SystemEvent(3, ()), "long", "90", ["reported a crash"]),
    "rdmsr": (exits.ReadMsr(0, 0x1B, None), "long", "90", ["read IA32_APIC_BASE (0x1b)"]),  # type: ignore[arg-type]
    "wrmsr": (exits.WriteMsr(0, 0x123, 1, None), "long", "90", ["wrote MSR 0x123"]),  # type: ignore[arg-type]
    "unhandled": (
        exits.Rare(k.KVM_EXIT_NOTIFY),
        "long",
        "90",
        ["KVM_EXIT_NOTIFY, which nothing here handles: the guest gave the host no chance"],
    ),
}


@pytest.mark.parametrize("name", EXITS)
def test_an_exit_names_its_cause(name: str) -> None:
    exit, mode, code, words = EXITS[name]
    explanation = dead(mode, code + NOP).explain(exit)
    for word in words:
        assert word in explanation.cause
    assert explanation.source


def test_a_failed_entry_names_the_broken_rule() -> None:
    guest = dead("long", "90")
    guest.sregs.cs.db = 1
    explanation = guest.explain(exits.FailEntry(0x8000_0021, 0))
    assert "CS has both L (64-bit) and D (32-bit) set" in explanation.cause
    assert "Guest Segment Registers" in explanation.source


def test_a_delivery_that_fails_names_the_stack_in_a_hole() -> None:
    guest = dead("long", "90" + NOP)
    guest.regs.rsp = 0x180000
    assert "stack pointer 0x180000 leads to 0x17fff8" in guest.explain(exits.InternalError(3, ())).cause


def test_kvm_pvm_is_named_where_it_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, "kvm", "kvm_pvm")
    interpreted = dead("long", "cd 40" + NOP).explain(emulation_failure("cd 40"))
    assert "KVM's emulator lacks `int 0x40` at 0x1000" in interpreted.cause
    assert "kvm_pvm" in interpreted.cause
    assert "host with VT-x or AMD-V" in interpreted.remedy
    valid = dead("long", "f3 0f b8 c1" + NOP)  # popcnt
    valid.vector = 6
    assert "`popcnt eax, ecx` at 0x1000 is a valid instruction" in valid.explain().cause
    undefined = dead("long", "0f 0b")
    undefined.vector = 6
    assert "valid instruction" not in undefined.explain().cause
    paging = mov_cr0(0x8000_0011)
    assert "switches 32-bit paging on" in paging.explain().cause
    paging.sregs.cr4 = 0x20
    assert "switches PAE paging on" in paging.explain().cause


def test_elsewhere_kvm_pvm_is_never_blamed() -> None:
    valid = dead("long", "f3 0f b8 c1" + NOP)
    valid.vector = 6
    assert "kvm_pvm" not in valid.explain().cause
    assert "kvm_pvm" not in mov_cr0(0x8000_0011).explain().cause


def test_code_cut_off_by_the_end_of_a_page_is_no_bad_instruction() -> None:
    guest = dead("long", "90 " * 15 + "48", rip=0x1FFFF0, size=0x200000)
    guest.regs.rip = 0x1FFFFF
    assert "he fetch at 0x200000 raised #PF" in guest.explain().cause


def test_an_aligned_entry_behind_zeros_is_no_slide() -> None:
    aligned = dead("long", "0f 0b", rip=0x3000)
    assert "`ud2`" in aligned.explain().cause


@pytest.mark.parametrize("code", ["ea 00 20 00 00 08 00", "cb", "cf", "48 cf", "8e d8"])
def test_sound_selectors_are_not_blamed(code: str) -> None:
    mode = "long" if code == "48 cf" else "protected"
    guest = dead(mode, code + NOP, rax=0x10, rsp=0x5000)
    word = 8 if mode == "long" else 4
    guest.ram.write(0x5000, b"\xee" * 64)  # only the second word is the selector
    guest.ram.write(0x5000 + word, b"\x18\0" if mode == "long" else b"\x08\0")
    assert "Any exception is a triple fault" in guest.explain().cause


def test_selectors_of_real_mode_name_no_descriptors() -> None:
    guest = dead("real", "8e d8" + NOP, rax=0xF000)
    assert "GDT" not in guest.explain().cause


@pytest.mark.parametrize(
    ("value", "cr4", "efer"), [(0x11, 0, 0), (0x8000_0011, 0x20, 0x100), (0x8000_0011, 0, 0), (0x8000_0011, 0x20, 0)]
)
def test_sound_control_registers_are_not_blamed(value: int, cr4: int, efer: int) -> None:
    guest = mov_cr0(value, cr4=cr4, efer=efer)
    assert "breaks a rule" not in guest.explain().cause


def test_a_rule_that_was_broken_before_is_not_blamed() -> None:
    guest = mov_cr0(0x11)
    guest.sregs.efer = 0x500  # LMA without paging: a state that no guest reaches by itself
    assert "breaks a rule" not in guest.explain().cause


def test_cr4_and_cr3_are_judged_as_themselves() -> None:
    guest = dead("long", "0f 22 e0", rax=0)
    assert "CR4 = 0x0 breaks a rule" in guest.explain().cause
    guest = dead("long", "0f 22 d8", rax=1 << 60)
    assert "CR3 = 0x1000000000000000 breaks a rule" in guest.explain().cause


@pytest.mark.parametrize("limit", [0, 0x3FF, 0xFFFF])
def test_tables_that_nobody_loaded_are_no_place(limit: int) -> None:
    guest = dead("long", "0f 0b", rip=0x2000)
    guest.sregs.gdt.base = guest.sregs.idt.base = 0x2000
    guest.sregs.gdt.limit = guest.sregs.idt.limit = limit
    assert "inside the" not in guest.explain().cause


def test_the_ends_of_a_table_are_its_first_and_last_byte() -> None:
    for rip, inside in ((GDT - 1, False), (GDT, True), (GDT + 0x2F, True), (GDT + 0x30, False)):
        guest = dead("long", "0f 0b" if rip != GDT - 1 else "", rip=rip)
        assert ("inside the GDT" in guest.explain().cause) is inside


@pytest.mark.parametrize(("reason", "words"), [(0x8000_0021, "invalid"), (0x8000_0022, "reason"), (0x21, "reason")])
def test_only_reason_33_of_a_failed_entry_is_an_invalid_state(reason: int, words: str) -> None:
    assert words in dead("long", "90").explain(exits.FailEntry(reason, 0)).cause


def test_cr2_counts_only_while_paging_is_on() -> None:
    guest = dead("protected", NOP)
    guest.sregs.cr2 = 0x12345678
    assert "CR2" not in guest.explain().cause


def test_a_16_bit_segment_of_the_guests_own_is_no_half_done_switch() -> None:
    for change in ({"limit": 0xFFFFF}, {"base": 0x10}):
        guest = before_the_far_jump("0f 0b")
        set_fields(guest.sregs.cs, **change)
        assert "real mode" not in guest.explain().cause


@pytest.mark.parametrize("place", [GDT + 8, 0x3000, 0x40000000, 0x180000])
def test_an_exit_that_is_no_death_is_not_blamed_on_rip(place: int) -> None:
    guest = dead("long")
    guest.regs.rip = place
    assert "which nothing here handles" in guest.explain(exits.Rare(k.KVM_EXIT_NOTIFY)).cause
