"""x87 and SSE state of a soft vCPU. (Being written; the interface stands.)"""

from __future__ import annotations

from typing import Any

from minivmm.soft.engine import Engine


def get_fpu(engine: Engine, fpu: Any) -> None:
    """KVM_GET_FPU: fills a `struct kvm_fpu *`."""
    raise NotImplementedError


def set_fpu(engine: Engine, fpu: Any) -> None:
    """KVM_SET_FPU."""
    raise NotImplementedError


def get_xsave(engine: Engine, xsave: Any) -> None:
    """KVM_GET_XSAVE: fills a `struct kvm_xsave *`."""
    raise NotImplementedError


def set_xsave(engine: Engine, xsave: Any) -> int:
    """KVM_SET_XSAVE: 0, or -EINVAL and nothing changed."""
    raise NotImplementedError


def get_xcrs(engine: Engine, xcrs: Any) -> None:
    """KVM_GET_XCRS: fills a `struct kvm_xcrs *`."""
    raise NotImplementedError


def set_xcrs(engine: Engine, xcrs: Any) -> int:
    """KVM_SET_XCRS: 0, or -EINVAL and nothing changed."""
    raise NotImplementedError


def get_xcr0(engine: Engine) -> int:
    """XCR0."""
    raise NotImplementedError


def set_xcr0(engine: Engine, value: int) -> bool:
    """XSETBV of XCR0. False: no valid combination, #GP(0)."""
    raise NotImplementedError


def reset(engine: Engine) -> None:
    """The state after power-up, as KVM leaves it: FCW 0x37F, MXCSR 0x1F80, all else 0; XCR0 is 1."""
    raise NotImplementedError
