"""XCR0: which state XSAVE saves. KVM_GET_XCRS, KVM_SET_XCRS and XSETBV.

The engine keeps it, and reads it in XSAVE, XRSTOR and XGETBV, but its interface doesn't reach it. It lies behind
TSC_AUX in a context; that it does is verified once, with XGETBV.

Source: SDM vol. 1, "Enabling the XSAVE Feature Set and XSAVE-Enabled Features"; KVM API 4.44 KVM_GET_XCRS.
"""

from __future__ import annotations

import errno
from typing import Any

from unicorn import x86_const as x86

from minivmm.soft.binding import ffi
from minivmm.soft.engine import Engine
from minivmm.soft.fpu import SSE, X87
from minivmm.soft.library import EngineError
from minivmm.soft.msr_table import TSC_AUX
from minivmm.soft.processor import Processor

RESET = X87
COMPONENTS = X87 | SSE
MOST = 16  # KVM_MAX_XCRS
_MAGIC = 0x1F2E_3D4C_5B6A_7988


def get_xcr0(cpu: Processor) -> int:
    return int(_xcr0(cpu)[0])


def set_xcr0(cpu: Processor, value: int, allowed: int = COMPONENTS) -> bool:
    """XSETBV with ECX = 0. `allowed` is what CPUID leaf 0xD offers. False: not a valid value, and #GP(0)."""
    if not value & X87 or value & ~allowed & ~X87 or value & ~COMPONENTS:
        return False
    _xcr0(cpu)[0] = value
    cpu.engine.put()
    return True


def get_xcrs(cpu: Processor, xcrs: Any) -> int:
    """KVM_GET_XCRS: fills a `struct kvm_xcrs *`."""
    xcrs.nr_xcrs, xcrs.flags = 1, 0
    xcrs.xcrs[0].xcr, xcrs.xcrs[0].reserved, xcrs.xcrs[0].value = 0, 0, get_xcr0(cpu)
    return 0


def set_xcrs(cpu: Processor, xcrs: Any, allowed: int = COMPONENTS) -> int:
    """KVM_SET_XCRS: 0, or -EINVAL and nothing changed. Registers other than XCR0 are passed over, as in KVM."""
    if xcrs.nr_xcrs > MOST or xcrs.flags:
        return -errno.EINVAL
    for entry in xcrs.xcrs[0 : xcrs.nr_xcrs]:
        if entry.xcr == 0:
            return 0 if set_xcr0(cpu, entry.value, allowed) else -errno.EINVAL
    return 0


def _xcr0(cpu: Processor) -> Any:
    """A pointer to it in `env`, which is brought up to date."""
    engine = cpu.engine
    cpu.look()
    return ffi.cast("uint64_t *", ffi.cast("char *", engine.cpu.env) + _offset(engine))


_known: int | None = None


def _offset(engine: Engine) -> int:
    """Where XCR0 lies behind RAX, in bytes; looked for once a process. Raises EngineError where it is not found."""
    global _known
    if _known is None:
        start = ffi.cast("char *", engine.cpu.env)
        room = int(ffi.cast("uintptr_t", engine.cpu.exception)) - int(ffi.cast("uintptr_t", start))
        # The engine's own TSC_AUX is free for this: RDTSCP asks native/hooks.c.
        engine.raw_set(x86.UC_X86_REG_MSR, ffi.new("uint64_t[2]", (TSC_AUX, _MAGIC)))
        engine.look()
        found = bytes(ffi.buffer(start, room)).find(_MAGIC.to_bytes(8, "little")) + 8
        engine.raw_set(x86.UC_X86_REG_MSR, ffi.new("uint64_t[2]", (TSC_AUX, 0)))
        engine.look()
        if found < 8 or ffi.cast("uint64_t *", start + found)[0] not in (X87, COMPONENTS):
            raise EngineError("This Unicorn keeps XCR0 elsewhere than 2.1.4: run pip install unicorn==2.1.4.")
        _known = found
    return _known
