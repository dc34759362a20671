"""A backend that passes every call on and remembers it: what the student's VMM did, as the kernel saw it."""

from __future__ import annotations

import contextlib
import errno
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from minivmm.exits import decode
from minivmm.kvm.ioctls import KVM_CREATE_VCPU, KVM_CREATE_VM, KVM_RUN, name_of
from minivmm.kvm.run_page import RunPage
from minivmm.kvm.seam import Backend, CData

EXITS_KEPT = 64
CALLS_KEPT = 200


class Recorder:
    """Wraps a backend and keeps what passes through it.

    `exits` are the last 64 exits, one line each; `counts` all exits by name; `calls` the first 200 other ioctls with
    their results, in order: "KVM_CREATE_VM: handle", "KVM_SET_SREGS: EINVAL".
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.name = backend.name
        self.counts: Counter[str] = Counter()
        self.calls: list[str] = []
        self._exits: deque[str] = deque(maxlen=EXITS_KEPT)
        self._runs: dict[int, RunPage] = {}
        self._open: list[int] = []

    @property
    def exits(self) -> list[str]:
        return list(self._exits)

    def open(self) -> int:
        fd = self.backend.open()
        self._open.append(fd)
        return fd

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        result = self.backend.ioctl(fd, request, argument)
        if request == KVM_RUN:
            self._record_exit(fd, result)
            return result
        makes_handle = request in (KVM_CREATE_VM, KVM_CREATE_VCPU) and result >= 0
        if makes_handle:
            self._open.append(result)
        if len(self.calls) < CALLS_KEPT:
            shown = "handle" if makes_handle else result if result >= 0 else errno.errorcode.get(-result, result)
            self.calls.append(f"{name_of(request)}: {shown}")
        return result

    @property
    def run(self) -> Callable[[int, CData], int]:
        return self._run

    def map_run(self, fd: int, size: int) -> CData:
        run = self.backend.map_run(fd, size)
        self._runs[int(fd)] = RunPage(run, size)
        return run

    def close(self, fd: int) -> None:
        """Closes a handle once. A student's late close of what `close_all` closed must not hit a newer handle."""
        if fd in self._open:
            self._open.remove(fd)
            self._runs.pop(int(fd), None)
            self.backend.close(int(fd))

    def kick(self, thread: int) -> None:
        self.backend.kick(thread)

    def close_all(self) -> None:
        """Closes what is still open, the last opened first: vCPUs before their VM, the VM before the system handle."""
        for fd in reversed(self._open.copy()):
            with contextlib.suppress(OSError):  # the student may have closed it with os.close
                self.close(fd)

    def _run(self, fd: int, page: CData) -> int:
        return self.ioctl(fd, KVM_RUN)

    def _record_exit(self, fd: int, result: int) -> None:
        run = self._runs.get(int(fd))
        if result < 0:
            line = name = f"KVM_RUN: {errno.errorcode.get(-result, -result)}"
        elif run is None:
            # KVM fills the page whether or not it is mapped; then nobody here can read it.
            line = name = "an exit whose kvm_run page was never mapped"
        else:
            exit = decode(run)
            line, name = str(exit), exit.name
        self.counts[name] += 1
        self._exits.append(line)
