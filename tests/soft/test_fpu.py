"""x87 and SSE state: round trips, what the guest sees of it, and KVM's own answers."""

from __future__ import annotations

import errno
import math
import struct as binary
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unicorn import x86_const as x86

from minivmm.kvm import ioctls
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct
from minivmm.kvm.seam import Backend
from minivmm.soft import fpu, xcr0
from minivmm.soft.engine import Engine
from minivmm.soft.memory import GuestSlots
from minivmm.soft.processor import Processor
from minivmm.soft.scratch import Scratch, scratch
from minivmm.vm import Vm

DATA = 0x40  # RBX points here
ONE = binary.pack("<QH", 1 << 63, 0x3FFF)  # 1.0, 1.5 and a NaN as 80-bit numbers
ONE_AND_A_HALF = binary.pack("<QH", 3 << 62, 0x3FFF)
NAN = binary.pack("<QH", 0xC000_0000_0000_0001, 0xFFFF)


@pytest.fixture
def cpu() -> Iterator[Scratch]:
    with scratch(b"\x90") as scratch_cpu:
        fpu.reset(scratch_cpu.engine)
        yield scratch_cpu


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with scratch(b"\x90") as scratch_cpu:
        yield scratch_cpu.engine


def run(code: str, state: fpu.FpuState) -> tuple[fpu.FpuState, int]:
    """Carries out one instruction with `state` before it. Returns the state after it, and RAX."""
    with scratch(bytes.fromhex(code)) as cpu:
        fpu.write(cpu.engine, state)
        cpu.execute((x86.UC_X86_REG_RBX, DATA), (x86.UC_X86_REG_RAX, 0))
        return fpu.read(cpu.engine), cpu.engine.get(x86.UC_X86_REG_RAX)


def read_back(engine: Engine) -> Any:
    state = struct("kvm_fpu")
    assert fpu.get_fpu(engine, state) == 0
    return state


def image(engine: Engine) -> bytearray:
    state = struct("kvm_xsave")
    assert fpu.get_xsave(engine, state) == 0
    return bytearray(ffi.buffer(state.region))


def put_image(engine: Engine, data: bytes | bytearray) -> int:
    state = struct("kvm_xsave")
    ffi.memmove(state.region, bytes(data), 4096)
    return fpu.set_xsave(engine, state)


def test_reset_is_what_kvm_leaves(cpu: Scratch) -> None:
    state = read_back(cpu.engine)
    assert (state.fcw, state.fsw, state.ftwx, state.mxcsr) == (0x37F, 0, 0, 0)
    assert not any(bytes(ffi.buffer(state.fpr)) + bytes(ffi.buffer(state.xmm)))
    legacy = fpu.LEGACY.unpack_from(image(cpu.engine))
    assert legacy[:8] == (0x37F, 0, 0, 0, 0, 0, 0x1F80, 0xFFFF)
    assert image(cpu.engine)[512:576] == bytes(64)  # nothing in use


STATES = st.builds(
    fpu.FpuState,
    fcw=st.integers(0, 0xFFFF),
    fsw=st.integers(0, 0xFFFF),
    tags=st.integers(0, 0xFF),
    opcode=st.integers(0, 0x7FF),
    ip=st.integers(0, 2**64 - 1),
    dp=st.integers(0, 2**64 - 1),
    mxcsr=st.integers(0, 0xFFFF),
    st=st.lists(st.binary(min_size=10, max_size=10), min_size=8, max_size=8),
    xmm=st.lists(st.binary(min_size=16, max_size=16), min_size=16, max_size=16),
)


@given(state=STATES)
@settings(max_examples=100, deadline=None)
def test_any_state_goes_round(engine: Engine, state: fpu.FpuState) -> None:
    fpu.write(engine, state)
    assert fpu.read(engine) == state
    saved_fpu, saved_image = read_back(engine), image(engine)
    fpu.reset(engine)
    assert put_image(engine, saved_image) == 0
    assert fpu.read(engine) == state
    fpu.reset(engine)
    assert fpu.set_fpu(engine, saved_fpu) == 0
    state.mxcsr = fpu.MXCSR_RESET  # is not part of struct kvm_fpu
    assert fpu.read(engine) == state


def test_top_says_which_register_is_first(cpu: Scratch) -> None:
    state = struct("kvm_fpu", fcw=0x37F, fsw=6 << 11, ftwx=0b1100_0000)  # TOP = 6: registers 6 and 7 are in use
    ffi.memmove(state.fpr[0], ONE, 10)
    ffi.memmove(state.fpr[1], ONE_AND_A_HALF, 10)
    assert fpu.set_fpu(cpu.engine, state) == 0
    first = ffi.buffer(cpu.engine.raw_get(x86.UC_X86_REG_FP6, "uint8_t[10]"))
    second = ffi.buffer(cpu.engine.raw_get(x86.UC_X86_REG_FP7, "uint8_t[10]"))
    assert (bytes(first), bytes(second)) == (ONE, ONE_AND_A_HALF)
    assert read_back(cpu.engine).ftwx == 0b1100_0000


# ---- what guest code sees ----


def test_the_guest_adds_what_was_set() -> None:
    before = fpu.FpuState(fsw=6 << 11, tags=0b1100_0000, st=[ONE, ONE_AND_A_HALF, *[bytes(10)] * 6])
    after, _ = run("de c1", before)  # faddp st(1), st(0)
    assert after.fsw >> 11 & 7 == 7
    assert after.tags == 0b1000_0000
    assert after.st[0] == binary.pack("<QH", 5 << 61, 0x4000)  # 2.5


def test_the_guest_pushes_onto_what_was_set() -> None:
    after, _ = run("d9 e8", fpu.FpuState())  # fld1
    assert (after.fsw >> 11 & 7, after.tags, after.st[0]) == (7, 0b1000_0000, ONE)


def test_the_control_word_rounds() -> None:
    """FIST of 1.5 gives 2 to the nearest even, and 1 towards zero: FCW bits 11:10."""
    for control, expected in ((0x37F, 2), (0x37F | 3 << 10, 1)):
        with scratch(b"\xdb\x13") as cpu:  # fist dword [rbx]
            fpu.write(cpu.engine, fpu.FpuState(fcw=control, fsw=7 << 11, tags=1 << 7, st=[ONE_AND_A_HALF] * 8))
            cpu.execute((x86.UC_X86_REG_RBX, DATA))
            assert cpu.memory[DATA] == expected


def test_mxcsr_rounds() -> None:
    """CVTSS2SI of 1.5, by MXCSR bits 14:13."""
    xmm = [binary.pack("<f12x", 1.5)] * 16
    assert run("f3 0f 2d c0", fpu.FpuState(xmm=xmm))[1] == 2
    assert run("f3 0f 2d c0", fpu.FpuState(mxcsr=0x1F80 | 3 << 13, xmm=xmm))[1] == 1


def test_the_guest_multiplies_in_xmm() -> None:
    xmm = [bytes(16)] * 16
    xmm[3], xmm[15] = binary.pack("<2d", 1.5, -2.0), binary.pack("<2d", 4.0, math.pi)
    after, _ = run("66 41 0f 59 df", fpu.FpuState(xmm=xmm))  # mulpd xmm3, xmm15
    assert binary.unpack("<2d", after.xmm[3]) == (6.0, -2.0 * math.pi)
    assert after.xmm[15] == xmm[15]


def test_fxsave_stores_what_get_xsave_shows() -> None:
    state = fpu.FpuState(fsw=5 << 11, tags=0b1110_0000, mxcsr=0x1FA0, st=[NAN] * 8, xmm=[bytes(range(16))] * 16)
    with scratch(b"\x0f\xae\x03") as cpu:  # fxsave [rbx]
        fpu.write(cpu.engine, state)
        cpu.execute((x86.UC_X86_REG_RBX, DATA))
        stored = bytes(cpu.memory[DATA : DATA + 512])
        ours = bytes(image(cpu.engine)[:512])
    assert fpu.LEGACY.unpack(stored) == fpu.LEGACY.unpack(ours)


# ---- XSAVE's header ----


def test_the_header_says_what_is_in_use(cpu: Scratch) -> None:
    fpu.write(cpu.engine, fpu.FpuState(tags=1))
    assert image(cpu.engine)[512] == fpu.X87
    fpu.write(cpu.engine, fpu.FpuState(mxcsr=0x1F00))
    assert image(cpu.engine)[512] == fpu.SSE


def test_a_component_that_is_not_in_use_is_reset(cpu: Scratch) -> None:
    full = fpu.FpuState(fcw=0x27F, tags=0xFF, mxcsr=0x1F00, st=[ONE] * 8, xmm=[b"x" * 16] * 16)
    fpu.write(cpu.engine, full)
    data = image(cpu.engine)
    for components, expected in (
        (fpu.X87, fpu.FpuState(fcw=0x27F, tags=0xFF, mxcsr=0x1F00, st=[ONE] * 8)),
        (fpu.SSE, fpu.FpuState(mxcsr=0x1F00, xmm=[b"x" * 16] * 16)),
        (0, fpu.FpuState(mxcsr=0x1F00)),  # MXCSR stays
    ):
        fpu.write(cpu.engine, full)
        data[512] = components
        assert put_image(cpu.engine, data) == 0
        assert fpu.read(cpu.engine) == expected


@pytest.mark.parametrize(("at", "value"), [(512, 1 << 2), (519, 1), (520, 1), (575, 1), (26, 1)])
def test_a_bad_image_is_refused_and_changes_nothing(cpu: Scratch, at: int, value: int) -> None:
    """A component that isn't there, the compacted format, reserved bytes, a reserved bit of MXCSR."""
    fpu.write(cpu.engine, fpu.FpuState(tags=1))
    before = image(cpu.engine)
    bad = bytearray(before)
    bad[0] ^= 0xFF
    bad[at] |= value
    assert put_image(cpu.engine, bad) == -errno.EINVAL
    assert image(cpu.engine) == before


# ---- XCR0 ----


@pytest.fixture
def xgetbv() -> Iterator[Scratch]:
    with scratch(b"\x0f\x01\xd0") as cpu:
        yield cpu


@pytest.fixture
def processor(xgetbv: Scratch) -> Processor:
    return Processor(xgetbv.engine, GuestSlots())


def test_xcr0_is_what_xgetbv_reads(processor: Processor, xgetbv: Scratch) -> None:
    for value in (1, 3):
        assert xcr0.set_xcr0(processor, value)
        assert xcr0.get_xcr0(processor) == value
        xgetbv.execute((x86.UC_X86_REG_RCX, 0), (x86.UC_X86_REG_RAX, 0))
        assert xgetbv.engine.get(x86.UC_X86_REG_RAX) == value


@pytest.mark.parametrize("value", [0, 2, 4, 5, 7, 1 << 63 | 1])
def test_other_combinations_are_refused(processor: Processor, value: int) -> None:
    xcr0.set_xcr0(processor, 1)
    assert not xcr0.set_xcr0(processor, value)
    assert xcr0.set_xcrs(processor, struct("kvm_xcrs", nr_xcrs=1, xcrs=[{"xcr": 0, "value": value}])) == -errno.EINVAL
    assert xcr0.get_xcr0(processor) == 1


def test_xcr0_keeps_to_cpuid(processor: Processor) -> None:
    xcr0.set_xcr0(processor, 1)
    assert not xcr0.set_xcr0(processor, 3, allowed=1)
    assert xcr0.set_xcr0(processor, 1, allowed=0)
    xcrs = struct("kvm_xcrs", nr_xcrs=1, xcrs=[{"xcr": 0, "value": 3}])
    assert xcr0.set_xcrs(processor, xcrs, allowed=1) == -errno.EINVAL
    assert xcr0.get_xcr0(processor) == 1
    assert not xcr0.set_xcr0(processor, 7, allowed=7)  # a CPUID that shows more than there is


def test_xcrs_go_round(processor: Processor) -> None:
    assert xcr0.set_xcrs(processor, struct("kvm_xcrs", nr_xcrs=1, xcrs=[{"xcr": 0, "value": 3}])) == 0
    xcrs = struct("kvm_xcrs")
    assert xcr0.get_xcrs(processor, xcrs) == 0
    assert (xcrs.nr_xcrs, xcrs.flags, xcrs.xcrs[0].xcr, xcrs.xcrs[0].value) == (1, 0, 0, 3)
    assert xcr0.set_xcrs(processor, struct("kvm_xcrs", nr_xcrs=17)) == -errno.EINVAL
    assert xcr0.set_xcrs(processor, struct("kvm_xcrs", flags=1)) == -errno.EINVAL
    assert xcr0.set_xcrs(processor, struct("kvm_xcrs", nr_xcrs=1, xcrs=[{"xcr": 1, "value": 9}])) == 0
    assert xcr0.get_xcr0(processor) == 3


# ---- KVM's own answers ----


@pytest.fixture
def vcpu(kvm_backend: Backend) -> Iterator[Any]:
    with Vm(kvm_backend) as vm:
        handle = vm.create_vcpu()
        yield lambda request, argument: kvm_backend.ioctl(handle.fd, request, argument)


@pytest.mark.kvm
def test_kvm_gives_the_same_fpu_for_the_same_input(vcpu: Any, engine: Engine) -> None:
    fpu.reset(engine)
    seen = [[], []]  # type: list[list[bytes]]
    for get, put, into in (
        (lambda f: vcpu(ioctls.KVM_GET_FPU, f), lambda f: vcpu(ioctls.KVM_SET_FPU, f), seen[0]),
        (lambda f: fpu.get_fpu(engine, f), lambda f: fpu.set_fpu(engine, f), seen[1]),
    ):
        state = struct("kvm_fpu")
        assert get(state) == 0
        into.append(bytes(ffi.buffer(state)))
        state.fcw, state.fsw, state.ftwx, state.mxcsr = 0x27F, 5 << 11 | 0x41, 0xE0, 0x1FA0
        state.last_opcode, state.last_ip, state.last_dp = 0x123, 0x1234_5678_9ABC, 0xFFFF_8000_0000_0000
        for n in range(8):
            ffi.memmove(state.fpr[n], (ONE, NAN)[n & 1], 10)
        for n in range(16):
            ffi.memmove(state.xmm[n], bytes(range(n, n + 16)), 16)
        assert put(state) == 0
        assert get(state) == 0
        into.append(bytes(ffi.buffer(state)))
    assert seen[0] == seen[1]


@pytest.mark.kvm
def test_kvm_refuses_the_same_images(vcpu: Any, engine: Engine) -> None:
    fpu.reset(engine)
    for at, value in ((0, 0), (512, 3), (513, 0x40), (519, 0x80), (520, 1), (575, 1), (26, 4), (27, 1)):
        state = struct("kvm_xsave")
        assert vcpu(ioctls.KVM_GET_XSAVE, state) == 0
        ffi.buffer(state.region)[28:32] = (0xFFFF).to_bytes(4, "little")  # MXCSR_MASK is the host's own
        ffi.cast("uint8_t *", state.region)[at] |= value
        assert (vcpu(ioctls.KVM_SET_XSAVE, state) == 0) == (fpu.set_xsave(engine, state) == 0), (at, value)
