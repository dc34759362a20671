"""x87 and SSE state of a soft vCPU, as KVM_GET_FPU, KVM_GET_XSAVE and KVM_GET_XCRS show it.

Registers go in the order of the stack: ST(0) first. The tag word is the abridged one of FXSAVE, a bit for each register
by its number, 1 for "in use"; the engine takes the full one of FNSTENV, two bits each, 0b11 for "empty".

Source: SDM vol. 1, "FXSAVE Area", "XSAVE Area"; vol. 2, "FXSAVE"; KVM API 4.22 KVM_GET_FPU, 4.42 KVM_GET_XSAVE.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass, field, replace
from typing import Any

from unicorn import x86_const as x86

from minivmm.kvm.binding import ffi as kvm_ffi
from minivmm.soft.binding import ffi
from minivmm.soft.engine import Engine

FCW_RESET, MXCSR_RESET = 0x37F, 0x1F80  # as after FNINIT
MXCSR_MASK = 0xFFFF  # the bits that MXCSR has
REGISTERS, XMM_REGISTERS = 8, 16
X87, SSE = 1 << 0, 1 << 1  # components of XSTATE_BV and XCR0
XSAVE_BYTES = 4096  # struct kvm_xsave; the header lies behind the legacy area
LEGACY = struct.Struct("<HHBxHQQII128s256s96x")
HEADER = struct.Struct("<QQ48x")


@dataclass
class FpuState:
    """FCW, FSW, the abridged tag word, the last instruction's opcode and pointers, MXCSR, ST(0–7), XMM0–15."""

    fcw: int = FCW_RESET
    fsw: int = 0
    tags: int = 0
    opcode: int = 0
    ip: int = 0
    dp: int = 0
    mxcsr: int = MXCSR_RESET
    st: list[bytes] = field(default_factory=lambda: [bytes(10)] * REGISTERS)
    xmm: list[bytes] = field(default_factory=lambda: [bytes(16)] * XMM_REGISTERS)


_NUMBERS = {
    "fcw": (x86.UC_X86_REG_FPCW, "uint16_t *"),
    "fsw": (x86.UC_X86_REG_FPSW, "uint16_t *"),
    "opcode": (x86.UC_X86_REG_FOP, "uint16_t *"),
    "ip": (x86.UC_X86_REG_FIP, "uint64_t *"),
    "dp": (x86.UC_X86_REG_FDP, "uint64_t *"),
    "mxcsr": (x86.UC_X86_REG_MXCSR, "uint32_t *"),
}


def read(engine: Engine) -> FpuState:
    """The state in the engine."""
    numbers = {name: int(engine.raw_get(register, kind)[0]) for name, (register, kind) in _NUMBERS.items()}
    full = int(engine.raw_get(x86.UC_X86_REG_FPTAG, "uint16_t *")[0])
    st = [_bytes(engine, x86.UC_X86_REG_ST0 + n, 10) for n in range(REGISTERS)]
    xmm = [_bytes(engine, x86.UC_X86_REG_XMM0 + n, 16) for n in range(XMM_REGISTERS)]
    return FpuState(tags=_abridged(full), st=st, xmm=xmm, **numbers)


def write(engine: Engine, state: FpuState) -> None:
    """Puts a state into the engine."""
    # FSW comes before the registers: its TOP says which of them is ST(0).
    for name, (register, kind) in _NUMBERS.items():
        engine.raw_set(register, ffi.new(kind, getattr(state, name)))
    engine.raw_set(x86.UC_X86_REG_FPTAG, ffi.new("uint16_t *", _full(state.tags)))
    for n, value in enumerate(state.st):
        engine.raw_set(x86.UC_X86_REG_ST0 + n, ffi.new("uint8_t[10]", value))
    for n, value in enumerate(state.xmm):
        engine.raw_set(x86.UC_X86_REG_XMM0 + n, ffi.new("uint8_t[16]", value))


def reset(engine: Engine) -> None:
    """The state after power-up, as KVM leaves it: that of FNINIT, and all registers 0."""
    write(engine, FpuState())


def _bytes(engine: Engine, register: int, size: int) -> bytes:
    return bytes(ffi.buffer(engine.raw_get(register, f"uint8_t[{size}]")))


def _abridged(full: int) -> int:
    return sum(1 << n for n in range(REGISTERS) if full >> 2 * n & 0b11 != 0b11)


def _full(abridged: int) -> int:
    # Valid, zero or special: the engine looks into the register for that.
    return sum(0b11 << 2 * n for n in range(REGISTERS) if not abridged >> n & 1)


# ---- KVM_GET_FPU, KVM_SET_FPU ----


def get_fpu(engine: Engine, fpu: Any) -> int:
    """KVM_GET_FPU: fills a `struct kvm_fpu *`. As in KVM, `mxcsr` is not part of it: it is 0. KVM_GET_XSAVE has it."""
    state = read(engine)
    kvm_ffi.memmove(fpu, bytes(kvm_ffi.sizeof("struct kvm_fpu")), kvm_ffi.sizeof("struct kvm_fpu"))
    fpu.fcw, fpu.fsw, fpu.ftwx, fpu.last_opcode = state.fcw, state.fsw, state.tags, state.opcode
    fpu.last_ip, fpu.last_dp = state.ip, state.dp
    kvm_ffi.memmove(fpu.fpr, b"".join(value.ljust(16, b"\0") for value in state.st), 16 * REGISTERS)
    kvm_ffi.memmove(fpu.xmm, b"".join(state.xmm), 16 * XMM_REGISTERS)
    return 0


def set_fpu(engine: Engine, fpu: Any) -> int:
    """KVM_SET_FPU; MXCSR stays as it is."""
    mxcsr = int(engine.raw_get(*_NUMBERS["mxcsr"])[0])
    st = _split(bytes(kvm_ffi.buffer(fpu.fpr)), 10)
    xmm = _split(bytes(kvm_ffi.buffer(fpu.xmm)), 16)
    write(engine, FpuState(fpu.fcw, fpu.fsw, fpu.ftwx, fpu.last_opcode, fpu.last_ip, fpu.last_dp, mxcsr, st, xmm))
    return 0


def _split(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), 16)]


# ---- KVM_GET_XSAVE, KVM_SET_XSAVE ----


def get_xsave(engine: Engine, xsave: Any) -> int:
    """KVM_GET_XSAVE: fills a `struct kvm_xsave *`."""
    state = read(engine)
    st = b"".join(value.ljust(16, b"\0") for value in state.st)
    legacy = LEGACY.pack(
        state.fcw,
        state.fsw,
        state.tags,
        state.opcode,
        state.ip,
        state.dp,
        state.mxcsr,
        MXCSR_MASK,
        st,
        b"".join(state.xmm),
    )
    image = (legacy + HEADER.pack(_in_use(state), 0)).ljust(XSAVE_BYTES, b"\0")
    kvm_ffi.memmove(xsave.region, image, XSAVE_BYTES)
    return 0


def _in_use(state: FpuState) -> int:
    """XSTATE_BV: what is not as after a reset (SDM vol. 1, "Processor Tracking of XSAVE-Managed State")."""
    initial = FpuState()
    sse = (state.mxcsr, state.xmm) != (initial.mxcsr, initial.xmm)
    x87 = replace(state, mxcsr=initial.mxcsr, xmm=initial.xmm) != initial
    return (X87 if x87 else 0) | (SSE if sse else 0)


def set_xsave(engine: Engine, xsave: Any) -> int:
    """KVM_SET_XSAVE: 0, or -EINVAL and nothing changed. A component whose bit in XSTATE_BV is 0 is reset."""
    image = bytes(kvm_ffi.buffer(xsave.region))
    header = image[LEGACY.size : LEGACY.size + HEADER.size]
    components, _ = HEADER.unpack(header)
    fcw, fsw, tags, opcode, ip, dp, mxcsr, _, st, xmm = LEGACY.unpack_from(image)
    if components & ~(X87 | SSE) or any(header[8:]) or mxcsr & ~MXCSR_MASK:
        return -errno.EINVAL
    state = FpuState(mxcsr=int(engine.raw_get(*_NUMBERS["mxcsr"])[0]))
    if components & X87:
        state.fcw, state.fsw, state.tags, state.opcode, state.ip, state.dp = fcw, fsw, tags, opcode, ip, dp
        state.st = _split(st, 10)
    if components & SSE:
        state.mxcsr, state.xmm = mxcsr, _split(xmm, 16)
    write(engine, state)
    return 0
