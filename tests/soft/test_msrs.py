"""MSRs: each rule by which one is refused, what the engine is told, and KVM's own answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unicorn import x86_const as x86

from minivmm.kvm import constants as k
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct
from minivmm.kvm.errors import KvmError
from minivmm.kvm.seam import Backend
from minivmm.soft import kvmclock, mtrr
from minivmm.soft import msr_table as msr
from minivmm.soft.cpuid import CpuidTable
from minivmm.soft.cpuid_supported import supported
from minivmm.soft.irqchip import IrqChip
from minivmm.soft.kvmclock import KvmClock
from minivmm.soft.memory import GuestSlots
from minivmm.soft.msr_filter import MsrFilter
from minivmm.soft.msr_table import FIXED, INDEX_LIST, KEPT, Write
from minivmm.soft.msrs import MsrRefused, Msrs
from minivmm.soft.processor import Processor
from minivmm.soft.scratch import Scratch, scratch
from minivmm.soft.tsc_sync import SAME, TscSync
from minivmm.vm import Vm

INVALID, UNKNOWN = k.KVM_MSR_EXIT_REASON_INVAL, k.KVM_MSR_EXIT_REASON_UNKNOWN
LOW, HIGH, NOT_CANONICAL = 0x7FFF_FFFF_F000, 0xFFFF_8000_0000_0000, 0x8000_0000_0000


class Tsc:
    """Stands in for clock.TscCounter: time stands still until it is told to go on."""

    khz = 1_000_000

    def __init__(self) -> None:
        self.ns = self.offset = 0

    def read(self) -> int:
        return self.ns + self.offset & (1 << 64) - 1


class NoCpu:
    def wake(self) -> None: ...
    def nmi(self) -> None: ...
    def init(self) -> None: ...
    def sipi(self, vector: int) -> None: ...


@dataclass
class Bench:
    """A vCPU's MSRs, with what is around them."""

    cpu: Scratch
    chip: IrqChip | None = None
    with_cpuid: bool = True
    with_clock: bool = True
    sync: TscSync = field(default_factory=TscSync)
    filter: MsrFilter = field(default_factory=MsrFilter)

    def __post_init__(self) -> None:
        self.tsc = Tsc()
        self.written: list[tuple[int, bytes]] = []
        self.cpuid = CpuidTable()
        if self.with_cpuid:
            self.cpuid.set(supported())
        self.processor = Processor(self.cpu.engine, GuestSlots())
        now = lambda: self.tsc.ns  # noqa: E731
        self.clock = KvmClock(self.tsc, now, now, lambda gpa, data: self.written.append((gpa, data)))
        self.apic = self.chip.add_cpu(0, NoCpu(), self.tsc) if self.chip else None
        self.msrs = Msrs(
            self.processor,
            self.cpuid,
            self.tsc,  # type: ignore[arg-type]
            self.clock if self.with_clock else None,
            apic=self.apic,
            sync=self.sync,
            filter=self.filter,
        )

    def refuses(self, index: int, value: int | None = None, *, host: bool = False) -> int:
        """Why it is refused: a KVM_MSR_EXIT_REASON_*. Fails where it isn't, or where the value changed all the same."""
        before = self._peek(index)
        attempt = partial(self.msrs.read, index) if value is None else partial(self.msrs.write, index, value)
        with pytest.raises(MsrRefused) as caught:
            attempt(host=host)
        assert self._peek(index) == before
        return caught.value.reason

    def _peek(self, index: int) -> int | None:
        try:
            return self.msrs.read(index, host=True)
        except MsrRefused:
            return None


@pytest.fixture
def engine() -> Iterator[Scratch]:
    with scratch(b"\x90") as cpu:
        yield cpu


@pytest.fixture(scope="module")
def shared_engine() -> Iterator[Scratch]:
    with scratch(b"\x90") as cpu:
        yield cpu


@pytest.fixture
def bench(engine: Scratch) -> Bench:
    return Bench(engine)


@pytest.fixture
def bench_with_chip(engine: Scratch) -> Bench:
    return Bench(engine, chip=IrqChip(lambda: 0))


# ---- which there are ----


def test_an_unknown_msr_is_told_from_a_bad_value(bench: Bench) -> None:
    assert bench.refuses(0xDEAD) == UNKNOWN
    assert bench.refuses(0xDEAD, 0) == UNKNOWN
    assert bench.refuses(0xDEAD, host=True) == UNKNOWN
    assert bench.refuses(msr.PAT, 2) == INVALID
    with pytest.raises(MsrRefused, match="MSR 0xdead doesn't exist"):
        bench.msrs.read(0xDEAD)


@pytest.mark.parametrize("index", [0x48, 0x49, 0x10A, 0xDA0, 0x480, 0x4B56_4D02, 0x4B56_4D04, 0x4000_0000, 0x3A])
def test_what_needs_a_feature_that_is_not_here_is_unknown(bench: Bench, index: int) -> None:
    """Speculation control, XSS, VMX, asynchronous page faults, PV EOI, Hyper-V."""
    assert bench.refuses(index) == UNKNOWN
    assert bench.refuses(index, 1) == UNKNOWN


def test_every_listed_index_can_be_saved_and_restored(bench_with_chip: Bench) -> None:
    assert len(set(INDEX_LIST)) == len(INDEX_LIST) > 40
    for index in INDEX_LIST:
        value = bench_with_chip.msrs.read(index, host=True)
        bench_with_chip.msrs.write(index, value, host=True)
        assert bench_with_chip.msrs.read(index, host=True) == value


def test_all_that_keeps_a_value_is_listed() -> None:
    assert set(KEPT) - set(INDEX_LIST) == {msr.OSVW_LENGTH, msr.OSVW_STATUS}  # CPUID does not show them


def test_no_register_has_two_owners() -> None:
    assert not set(FIXED) & set(KEPT)
    assert not (set(FIXED) | set(KEPT)) & kvmclock.MSRS


@pytest.mark.parametrize("index", FIXED)
def test_fixed_registers(bench: Bench, index: int) -> None:
    value, write = FIXED[index]
    if value is None:
        assert bench.refuses(index) == INVALID
        bench.msrs.write(index, 5)
        return
    assert bench.msrs.read(index) == value
    other = value ^ 1 << 20
    if write is Write.IGNORED:
        bench.msrs.write(index, other)
        assert bench.msrs.read(index) == value
    else:
        assert bench.refuses(index, other) == INVALID
        assert bench.refuses(index, other, host=True) == INVALID
        bench.msrs.write(index, value, host=True)
    if write is Write.REFUSED:
        assert bench.refuses(index, value) == INVALID


def test_first_values(bench_with_chip: Bench) -> None:
    """After power-up all are 0, but these; the TSC counts."""
    values = {index: bench_with_chip.msrs.read(index, host=True) for index in INDEX_LIST}
    assert {index: value for index, value in values.items() if value} == {
        msr.PAT: 0x0007_0406_0007_0406,
        msr.MISC_ENABLE: 1,
        msr.UCODE_REV: 0x0100_0065,
        msr.POLL_CONTROL: 1,
    }


def test_osvw_needs_its_feature(bench: Bench) -> None:
    assert bench.refuses(msr.OSVW_LENGTH) == INVALID
    assert bench.refuses(msr.OSVW_STATUS, 1, host=True) == INVALID


# ---- rules of values ----


def test_pat_takes_memory_types_only(bench: Bench) -> None:
    bench.msrs.write(msr.PAT, 0x0001_0405_0607_0406)
    assert bench.msrs.read(msr.PAT) == 0x0001_0405_0607_0406
    for bad in (2, 3 << 56, 8 << 24, 0xFF):
        assert bench.refuses(msr.PAT, bad) == INVALID


@pytest.mark.parametrize("index", [msr.LSTAR, msr.CSTAR, msr.FS_BASE, msr.GS_BASE, msr.KERNEL_GS_BASE])
@pytest.mark.parametrize("host", [False, True])
def test_addresses_are_canonical(bench: Bench, index: int, host: bool) -> None:
    for good in (LOW, HIGH, (1 << 64) - 1):
        bench.msrs.write(index, good, host)
        assert bench.msrs.read(index, host) == good
    for bad in (NOT_CANONICAL, HIGH - 1, 1 << 63):
        assert bench.refuses(index, bad, host=host) == INVALID


def test_sysenter_addresses_are_made_canonical(bench: Bench) -> None:
    for index in (msr.SYSENTER_ESP, msr.SYSENTER_EIP):
        bench.msrs.write(index, NOT_CANONICAL)
        assert bench.msrs.read(index) == HIGH


def test_hwcr_and_de_cfg_keep_what_they_know(bench: Bench) -> None:
    bench.msrs.write(msr.HWCR, 1 << 3 | 1 << 6 | 1 << 8 | 1 << 18)
    assert bench.msrs.read(msr.HWCR) == 1 << 18
    assert bench.refuses(msr.HWCR, 1 << 40) == INVALID
    bench.msrs.write(msr.DE_CFG, 2)
    assert bench.msrs.read(msr.DE_CFG) == 2
    assert bench.refuses(msr.DE_CFG, 1) == INVALID


def test_microcode_is_the_hosts_to_set(bench: Bench) -> None:
    bench.msrs.write(msr.UCODE_REV, 0)  # how a guest asks for it
    assert bench.msrs.read(msr.UCODE_REV) == 0x0100_0065
    bench.msrs.write(msr.UCODE_REV, 7, host=True)
    assert bench.msrs.read(msr.UCODE_REV) == 7


def test_poll_control_is_one_bit(bench: Bench) -> None:
    assert bench.msrs.read(msr.POLL_CONTROL) == 1
    bench.msrs.write(msr.POLL_CONTROL, 0)
    assert bench.refuses(msr.POLL_CONTROL, 2) == INVALID


@pytest.mark.parametrize(
    ("index", "good", "bad"),
    [
        (mtrr.DEF_TYPE, (0, 0xC06, 0x800), (2, 0x1000, 0x106, 7, 1 << 40)),
        (0x250, (0x0606_0606_0606_0606, 0), (2, 7 << 56, 0xFF)),
        (0x26F, (0x0504_0100_0605_0401,), (3 << 8,)),
        (0x200, (0xC000_0006, 0xFF_FFFF_F000), (2, 0x106, 1 << 40 | 6)),
        (0x201, (0xFF_C000_0800, 0), (0x400, 1, 1 << 40)),
        (0x20F, (0x800,), (0x7FF,)),
    ],
)
def test_mtrrs_are_checked(bench: Bench, index: int, good: tuple[int, ...], bad: tuple[int, ...]) -> None:
    for value in good:
        bench.msrs.write(index, value)
        assert bench.msrs.read(index) == value
    for value in bad:
        assert bench.refuses(index, value) == INVALID
        assert bench.refuses(index, value, host=True) == INVALID


def test_mtrr_capabilities(bench: Bench) -> None:
    assert bench.msrs.read(mtrr.MTRRCAP) == 0x508
    assert bench.refuses(mtrr.MTRRCAP, 0) == INVALID
    assert bench.refuses(0x210) == UNKNOWN  # a ninth pair


# ---- EFER ----


def test_efer_keeps_lma_to_the_processor(bench: Bench) -> None:
    env = bench.processor.look()
    env.efer, env.cr0 = 0, 1
    bench.processor.put()
    bench.msrs.write(msr.EFER, 0xD01)  # SCE, LME, LMA, NXE
    assert bench.msrs.read(msr.EFER) == 0x901
    assert bench.processor.cpu.efer == 0x901  # what the page walk looks at


def test_lme_stays_while_there_is_paging(bench: Bench) -> None:
    env = bench.processor.look()
    env.efer, env.cr0 = 0x500, 0x8000_0001
    bench.processor.put()
    assert bench.refuses(msr.EFER, 0) == INVALID
    assert bench.refuses(msr.EFER, 0, host=True) == INVALID
    bench.msrs.write(msr.EFER, 0x901)
    assert bench.msrs.read(msr.EFER) == 0xD01


@pytest.mark.parametrize("bit", [1, 9, 12, 13, 14, 15, 63])
def test_reserved_bits_of_efer(bench: Bench, bit: int) -> None:
    value = bench.msrs.read(msr.EFER) | 1 << bit
    assert bench.refuses(msr.EFER, value) == INVALID
    assert bench.refuses(msr.EFER, value, host=True) == INVALID


def test_efer_keeps_to_cpuid_for_the_guest(engine: Scratch) -> None:
    bench = Bench(engine, with_cpuid=False)
    env = bench.processor.look()
    env.efer, env.cr0 = 0, 1
    bench.processor.put()
    assert bench.refuses(msr.EFER, 0x800) == INVALID
    assert bench.refuses(msr.EFER, 0x100) == INVALID
    bench.msrs.write(msr.EFER, 1)
    bench.msrs.write(msr.EFER, 0x900, host=True)
    assert bench.msrs.read(msr.EFER) == 0x900


# ---- what the engine is told ----


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (msr.STAR, 0x0023_0010_0000_1234),
        (msr.LSTAR, HIGH + 0x100),
        (msr.CSTAR, HIGH + 0x200),
        (msr.FMASK, 0x4_7700),
        (msr.KERNEL_GS_BASE, HIGH + 0x300),
        (msr.SYSENTER_CS, 0x10),
        (msr.SYSENTER_ESP, HIGH + 0x400),
        (msr.SYSENTER_EIP, HIGH + 0x500),
        (msr.PAT, 0x0606_0606_0606_0606),
    ],
)
def test_the_engine_has_it_too(bench: Bench, index: int, value: int) -> None:
    bench.msrs.write(index, value)
    assert bench.cpu.engine.raw_get(x86.UC_X86_REG_MSR, "uint64_t[2]", (index, 0))[1] == value
    assert bench.msrs.read(index) == value


def test_swapgs_exchanges_what_was_set() -> None:
    with scratch(b"\x0f\x01\xf8") as cpu:
        bench = Bench(cpu)
        bench.msrs.write(msr.GS_BASE, LOW)
        bench.msrs.write(msr.KERNEL_GS_BASE, HIGH)
        cpu.execute()
        assert (bench.msrs.read(msr.GS_BASE), bench.msrs.read(msr.KERNEL_GS_BASE)) == (HIGH, LOW)


def test_wrfsbase_shows(bench: Bench) -> None:
    with scratch(b"\xf3\x48\x0f\xae\xd0") as cpu:  # wrfsbase rax
        inner = Bench(cpu)
        cpu.execute((x86.UC_X86_REG_RAX, HIGH))
        assert inner.msrs.read(msr.FS_BASE) == HIGH


def test_a_new_vcpu_has_no_old_values(engine: Scratch) -> None:
    Bench(engine).msrs.write(msr.KERNEL_GS_BASE, HIGH)
    assert Bench(engine).msrs.read(msr.KERNEL_GS_BASE) == 0


# ---- time ----


def test_a_guest_moves_its_tsc_and_sees_it_in_tsc_adjust(bench: Bench) -> None:
    bench.tsc.ns = 1000
    bench.msrs.write(msr.TSC, 5000)
    assert bench.msrs.read(msr.TSC) == 5000
    assert bench.msrs.read(msr.TSC_ADJUST) == 4000
    bench.tsc.ns += 500
    assert bench.msrs.read(msr.TSC) == 5500


def test_tsc_adjust_moves_the_tsc(bench: Bench) -> None:
    bench.tsc.ns = 1000
    bench.msrs.write(msr.TSC_ADJUST, 300)
    assert (bench.msrs.read(msr.TSC), bench.msrs.read(msr.TSC_ADJUST)) == (1300, 300)
    bench.msrs.write(msr.TSC_ADJUST, (1 << 64) - 100)  # minus 100
    assert (bench.msrs.read(msr.TSC), bench.tsc.offset) == (900, -100)


def test_restoring_tsc_adjust_moves_nothing(bench: Bench) -> None:
    bench.msrs.write(msr.TSC, 7000, host=True)
    bench.msrs.write(msr.TSC_ADJUST, 300, host=True)
    assert (bench.msrs.read(msr.TSC), bench.msrs.read(msr.TSC_ADJUST)) == (7000, 300)


@given(values=st.lists(st.tuples(st.booleans(), st.integers(0, 2**64 - 1), st.integers(0, 10**12)), max_size=10))
@settings(max_examples=50, deadline=None)
def test_the_tsc_is_what_was_written_plus_what_passed(
    shared_engine: Scratch, values: list[tuple[bool, int, int]]
) -> None:
    bench = Bench(shared_engine)
    for host, value, passed in values:
        bench.sync = TscSync()
        bench.msrs = Msrs(bench.processor, bench.cpuid, bench.tsc, bench.clock)  # type: ignore[arg-type]
        bench.msrs.write(msr.TSC, value, host)
        bench.tsc.ns += passed
        assert bench.msrs.read(msr.TSC) == value + passed & (1 << 64) - 1
        assert -(1 << 63) <= bench.tsc.offset < 1 << 63  # it fits the engine's field


def test_tsc_of_a_vms_vcpus_stay_equal(engine: Scratch) -> None:
    """A VMM restores them one after the other, while time goes on."""
    sync = TscSync()
    first, second = Bench(engine, sync=sync), Bench(engine, sync=sync)
    first.msrs.write(msr.TSC, 10**12, host=True)
    second.tsc.ns = first.tsc.ns = 5_000
    second.msrs.write(msr.TSC, 10**12, host=True)
    assert second.msrs.read(msr.TSC) == first.msrs.read(msr.TSC) == 10**12 + 5_000
    second.msrs.write(msr.TSC, 10**12 + 2 * SAME, host=True)
    assert second.msrs.read(msr.TSC) == 10**12 + 2 * SAME


def test_a_tsc_that_jumps_moves_the_deadline(bench_with_chip: Bench) -> None:
    bench = bench_with_chip
    assert bench.apic is not None
    bench.apic.timer.set_mode(2)
    bench.msrs.write(msr.TSC_DEADLINE, 10_000)
    assert bench.apic.timer.due == 10_000
    bench.msrs.write(msr.TSC, 4_000)
    assert bench.apic.timer.due == 6_000
    assert bench.msrs.read(msr.TSC_DEADLINE) == 10_000


def test_a_tsc_that_jumps_renews_the_clock_page(bench: Bench) -> None:
    bench.msrs.write(kvmclock.MSR_SYSTEM_TIME_NEW, 0x3001)
    bench.written.clear()
    bench.msrs.write(msr.TSC, 4_000)
    assert {gpa for gpa, _ in bench.written} == {0x3000}


def test_tsc_aux_needs_rdtscp(bench: Bench, engine: Scratch) -> None:
    bench.msrs.write(msr.TSC_AUX, 0xFFFF_FFFF_0000_0007)
    assert bench.msrs.read(msr.TSC_AUX) == 7
    assert bench.cpu.engine.cpu.tsc_aux == 7
    bare = Bench(engine, with_cpuid=False)
    assert bare.refuses(msr.TSC_AUX) == INVALID
    assert bare.refuses(msr.TSC_AUX, 9) == INVALID
    assert bare.refuses(msr.TSC_ADJUST, 9) == INVALID
    bare.msrs.write(msr.TSC_AUX, 9, host=True)
    assert bare.msrs.read(msr.TSC_AUX, host=True) == 9


# ---- KVM's own ----


def test_kvms_own_msrs(bench: Bench) -> None:
    bench.msrs.write(kvmclock.MSR_STEAL_TIME, 0x4001)
    assert bench.msrs.read(kvmclock.MSR_STEAL_TIME) == 0x4001
    assert bench.refuses(kvmclock.MSR_STEAL_TIME, 0x4003) == INVALID
    assert any(gpa & ~0x3F == 0x4000 for gpa, _ in bench.written)


def test_without_a_clock_there_are_none(engine: Scratch) -> None:
    assert Bench(engine, with_clock=False).refuses(kvmclock.MSR_SYSTEM_TIME_NEW) == UNKNOWN


# ---- the local APIC ----


def test_apic_base_without_an_irqchip_is_a_value(bench: Bench) -> None:
    assert bench.msrs.apic_base == bench.msrs.read(msr.APIC_BASE) == 0xFEE0_0900
    bench.msrs.write(msr.APIC_BASE, 0xFEE0_0100)
    assert bench.msrs.apic_base == 0xFEE0_0100
    assert bench.refuses(msr.APIC_BASE, 0xFEE0_0901) == INVALID
    assert bench.refuses(msr.APIC_BASE, 1 << 40 | 0x900) == INVALID
    assert bench.refuses(0x802) == UNKNOWN
    assert bench.refuses(msr.TSC_DEADLINE) == UNKNOWN


def test_other_processors_are_not_the_bootstrap_one(engine: Scratch) -> None:
    bench = Bench(engine)
    other = Msrs(bench.processor, bench.cpuid, bench.tsc, is_bsp=False)  # type: ignore[arg-type]
    assert other.apic_base == 0xFEE0_0800


def test_x2apic_has_its_transitions(bench_with_chip: Bench) -> None:
    bench = bench_with_chip
    assert bench.refuses(0x802) == INVALID  # not in x2APIC mode
    bench.msrs.write(msr.APIC_BASE, 0xFEE0_0D00)
    assert bench.msrs.apic_base == 0xFEE0_0D00
    assert bench.msrs.read(0x802) == 0
    bench.msrs.write(0x808, 0x20)
    assert bench.msrs.read(0x808) == 0x20
    assert bench.refuses(0x808, 0x100) == INVALID
    assert bench.refuses(msr.APIC_BASE, 0xFEE0_0900) == INVALID  # back to xAPIC: by way of "off" only
    bench.msrs.write(msr.APIC_BASE, 0xFEE0_0900, host=True)  # a host may restore any state
    assert bench.msrs.apic_base == 0xFEE0_0900


# ---- the filter ----


def _filter(flags: int, *ranges: tuple[int, int, int, bytes]) -> MsrFilter:
    keep = [ffi.new("uint8_t[]", bitmap.ljust(16, b"\0")) for *_, bitmap in ranges]
    argument = struct("kvm_msr_filter", flags=flags)
    for entry, (kind, base, count, _), bitmap in zip(argument.ranges, ranges, keep, strict=False):
        entry.flags, entry.base, entry.nmsrs, entry.bitmap = kind, base, count, bitmap
    filter = MsrFilter()
    filter.set(argument)
    return filter


READ, WRITE = k.KVM_MSR_FILTER_READ, k.KVM_MSR_FILTER_WRITE


def test_a_filter_allows_by_bitmap_and_default() -> None:
    filter = _filter(k.KVM_MSR_FILTER_DEFAULT_DENY, (READ, 0x100, 10, b"\x05\x02"), (WRITE, 0x200, 1, b"\x01"))
    assert [index for index in range(0xF8, 0x110) if filter.allows(index, write=False)] == [0x100, 0x102, 0x109]
    assert [index for index in range(0xF8, 0x210) if filter.allows(index, write=True)] == [0x200]
    assert filter.allows(0x802, write=True)  # the x2APIC is never filtered
    open_filter = _filter(k.KVM_MSR_FILTER_DEFAULT_ALLOW, (READ | WRITE, 0x100, 8, b"\xfe"))
    assert not open_filter.allows(0x100, write=True)
    assert open_filter.allows(0x101, write=True)
    assert open_filter.allows(0x300, write=False)
    assert MsrFilter().allows(0x300, write=False)


def test_bad_filters_are_refused() -> None:
    for flags, ranges in (
        (2, []),
        (k.KVM_MSR_FILTER_DEFAULT_DENY, []),
        (0, [(0, 0x100, 8, b"")]),
        (0, [(4, 0x100, 8, b"")]),
        (0, [(READ, 0x100, 0x600 * 8 + 1, b"")]),
    ):
        with pytest.raises(ValueError, match=r"filter|range"):
            _filter(flags, *ranges)
    argument = struct("kvm_msr_filter")
    argument.ranges[0].flags, argument.ranges[0].nmsrs = READ, 8
    with pytest.raises(ValueError, match="nowhere"):
        MsrFilter().set(argument)


def test_the_filter_speaks_for_the_guest(engine: Scratch) -> None:
    bench = Bench(engine, filter=_filter(0, (WRITE, msr.LSTAR, 1, b"\0")))
    bench.msrs.check_filter(msr.LSTAR, write=False)
    with pytest.raises(MsrRefused, match="is filtered") as caught:
        bench.msrs.check_filter(msr.LSTAR, write=True)
    assert caught.value.reason == k.KVM_MSR_EXIT_REASON_FILTER
    bench.msrs.write(msr.LSTAR, LOW, host=True)


# ---- anything at all ----


@given(
    index=st.one_of(st.sampled_from([*FIXED, *KEPT, *INDEX_LIST, msr.EFER, msr.APIC_BASE]), st.integers(0, 2**32 - 1)),
    value=st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 0xFFF)),
    host=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_any_write_is_taken_or_refused_whole(shared_engine: Scratch, index: int, value: int, host: bool) -> None:
    bench = Bench(shared_engine, chip=IrqChip(lambda: 0))
    before = bench._peek(index)
    try:
        bench.msrs.write(index, value, host)
    except MsrRefused:
        assert bench._peek(index) == before


@pytest.mark.kvm
def test_kvm_refuses_and_takes_the_same_values(kvm_backend: Backend, bench: Bench) -> None:
    """What the host writes, there and here. Not the same on purpose: no machine checks, no CPUID faulting."""
    with Vm(kvm_backend) as vm:
        vcpu = vm.create_vcpu()
        vm.show_supported_cpuid(vcpu)
        cases = [
            *((index, value) for index in mtrr.INDICES for value in (0, 2, 6, 0x106, 0x800, 0x806, 0xC06, 1 << 60)),
            # No bad ones for PAT: this project's development host has a kvm_pvm, and that takes any.
            *((msr.PAT, value) for value in (0, 0x0707_0707_0707_0707, 0x0001_0405_0607_0406)),
            *((index, value) for index in (msr.STAR, msr.FMASK, msr.SYSENTER_CS) for value in (0, 5, 0x1234_5678)),
            *(
                (index, value)
                for index in (msr.LSTAR, msr.CSTAR, msr.KERNEL_GS_BASE, msr.FS_BASE, msr.GS_BASE)
                for value in (LOW, HIGH, NOT_CANONICAL)
            ),
            *((msr.SYSENTER_EIP, value) for value in (LOW, HIGH)),
            *((msr.HWCR, value) for value in (0, 1 << 3, 1 << 6, 1 << 8, 1 << 40, 1)),
            *((msr.POLL_CONTROL, value) for value in (0, 1, 2)),
            *((msr.TSC_ADJUST, value) for value in (0, 500)),
            *((index, 0) for index in (0x198, 0x17, 0xCD, 0xFE, 0xDEAD, 0x1DB, 0xC001_0000, 0xC001_0010)),
            *((kvmclock.MSR_STEAL_TIME, value) for value in (0, 2, 0x3E)),
        ]
        different = []
        for index, value in cases:
            if FIXED.get(index, (1, None))[0] == value:
                continue  # a host may write the value that is there, here
            try:
                vcpu.set_msr(index, value)
                theirs: int | None = vcpu.get_msr(index)
            except KvmError:
                theirs = None
            try:
                bench.msrs.write(index, value, host=True)
                ours: int | None = bench.msrs.read(index, host=True)
            except MsrRefused:
                ours = None
            if ours != theirs:
                different.append(f"MSR {index:#x} = {value:#x}: {theirs} there, {ours} here")
    assert different == []
