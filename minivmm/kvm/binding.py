"""The binding itself: `ffi` (every structure of the API) and five C calls, compiled (API mode) or not (ABI mode).

Both modes give the same five functions:

    ioctl_pointer(fd, request, pointer) -> int      the result, or -errno
    ioctl_value(fd, request, number) -> int         the result, or -errno
    run(vcpu, page) -> int                          KVM_RUN: as the seam says (seam.py)
    install_kick(signal_number) -> int              0, or -errno
    send_signal(thread, signal_number) -> int       0, or -errno
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

__all__ = ["MODE", "ffi", "install_kick", "ioctl_pointer", "ioctl_value", "run", "send_signal"]


def _compiled() -> tuple[Any, ...]:
    if os.environ.get("MINIVMM_FFI") == "abi":
        raise ImportError("ABI mode was asked for")
    module = importlib.import_module("minivmm.kvm._kvm")
    lib = module.lib
    calls = lib.minivmm_ioctl, lib.minivmm_ioctl_value, lib.minivmm_run, lib.minivmm_install_kick, lib.minivmm_signal
    return module.ffi, *calls


def _uncompiled() -> tuple[Any, ...]:
    from cffi import FFI

    from minivmm.kvm.build_ffi import STRUCTS

    ffi = FFI()
    ffi.cdef(STRUCTS)
    ffi.cdef("int ioctl(int, unsigned long, ...); int siginterrupt(int, int); void (*signal(int, void (*)(int)))(int);")
    ffi.cdef("int getpid(void); long syscall(long, ...);")
    try:
        libc = ffi.dlopen(None)
    except OSError:  # no C library by that name: fine for backends that make no system calls
        libc = None

    def ioctl_pointer(fd: int, request: int, pointer: Any) -> int:
        result: int = libc.ioctl(fd, request, ffi.cast("void *", pointer))
        return -ffi.errno if result < 0 else result

    def ioctl_value(fd: int, request: int, number: int) -> int:
        result: int = libc.ioctl(fd, request, ffi.cast("unsigned long", number))
        return -ffi.errno if result < 0 else result

    def run(vcpu: int, page: Any) -> int:
        return ioctl_value(vcpu, 0xAE80, 0)

    def install_kick(signal_number: int) -> int:
        # Without a compiler there is no handler of our own. getpid() stands in: it is safe in a signal handler, ignores
        # the argument (System V ABI) and has no effect. A Python handler would only run in the main thread.
        libc.signal(signal_number, ffi.cast("void (*)(int)", ffi.addressof(libc, "getpid")))
        result: int = libc.siginterrupt(signal_number, 1)
        return -ffi.errno if result < 0 else 0

    def send_signal(thread: int, signal_number: int) -> int:
        numbers = (ffi.cast("long", number) for number in (os.getpid(), thread, signal_number))
        return -ffi.errno if libc.syscall(234, *numbers) < 0 else 0  # SYS_tgkill on x86-64

    return ffi, ioctl_pointer, ioctl_value, run, install_kick, send_signal


try:
    ffi, ioctl_pointer, ioctl_value, run, install_kick, send_signal = _compiled()
    MODE = "API"
except ImportError:
    ffi, ioctl_pointer, ioctl_value, run, install_kick, send_signal = _uncompiled()
    MODE = "ABI"
    if "MINIVMM_FFI" not in os.environ:
        print(
            "minivmm: no compiled KVM binding (no C compiler at install); using the slower ABI mode.", file=sys.stderr
        )
