"""Shortcuts through KVM: notifications and interrupts that never wake the vCPU's userspace thread.

Without them a write to QueueNotify leaves the guest, goes through the run loop and the bus, and rings the doorbell; an
interrupt is an ioctl. With them KVM rings the doorbell itself (an ioeventfd on the register, one a queue, told apart by
the value written), and ringing another makes the interrupt (an irqfd: raised and lowered at once, an edge).

Source: KVM API 4.59 KVM_IOEVENTFD, 4.75 KVM_IRQFD.
"""

from __future__ import annotations

import contextlib
import errno
from typing import Any, Protocol

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls
from minivmm.kvm.calls import struct
from minivmm.kvm.errors import KvmError
from minivmm.virtio import registers as reg
from minivmm.virtio.doorbell import Doorbell
from minivmm.virtio.mmio import VirtioMmio
from minivmm.virtio.worker import Worker

NOT_THERE = (errno.ENOTTY, errno.EINVAL, errno.ENOSYS, errno.ENODEV)  # a backend, or a VM, that can't do it


class VmHandle(Protocol):
    """A VM, as `minivmm.vm.Vm` is one."""

    def ioctl(self, request: int, argument: Any = 0) -> int:
        """One ioctl on the VM handle. Raises KvmError."""
        ...


class KvmWiring:
    """The shortcuts of one device. Where the backend lacks one, the slow way stays, and works the same.

    `gsi` is None where no interrupt controller in the kernel hears of the line. `notifications` and `interrupts` say
    which were made. Close it before the worker and before the VM.
    """

    def __init__(self, vm: VmHandle, transport: VirtioMmio, worker: Worker, gsi: int | None) -> None:
        self._vm = vm
        self._transport = transport
        self._undo: list[tuple[int, Any]] = []
        self._line = Doorbell()
        self._slow_pulse = transport.status.pulse
        try:
            self.notifications = self._wire_notifications(worker)
            self.interrupts = gsi is not None and self._wire_interrupt(gsi)
        except BaseException:
            self.close()
            raise

    def _wire_notifications(self, worker: Worker) -> bool:
        address = self._transport.claim.start + reg.QUEUE_NOTIFY
        for index, doorbell in enumerate(worker.doorbells):
            flags = k.KVM_IOEVENTFD_FLAG_DATAMATCH
            fields = {"datamatch": index, "addr": address, "len": 4, "fd": doorbell.fileno()}
            if not (doorbell.is_eventfd and self._try(ioctls.KVM_IOEVENTFD, "kvm_ioeventfd", flags, fields)):
                return False  # those that were made stay: the register works either way, queue by queue
            fields["flags"] = flags | k.KVM_IOEVENTFD_FLAG_DEASSIGN
            self._undo.append((ioctls.KVM_IOEVENTFD, struct("kvm_ioeventfd", **fields)))
        return True

    def _wire_interrupt(self, gsi: int) -> bool:
        fields = {"fd": self._line.fileno(), "gsi": gsi}
        if not (self._line.is_eventfd and self._try(ioctls.KVM_IRQFD, "kvm_irqfd", 0, fields)):
            return False
        self._undo.append((ioctls.KVM_IRQFD, struct("kvm_irqfd", **fields, flags=k.KVM_IRQFD_FLAG_DEASSIGN)))
        self._transport.status.pulse = self._line.ring
        return True

    def _try(self, request: int, kind: str, flags: int, fields: dict[str, int]) -> bool:
        try:
            self._vm.ioctl(request, struct(kind, **fields, flags=flags))
        except KvmError as error:
            if error.errno in NOT_THERE:
                return False
            raise
        return True

    def close(self) -> None:
        """Back to the slow way. A second call does nothing."""
        self._transport.status.pulse = self._slow_pulse
        while self._undo:
            with contextlib.suppress(KvmError):  # the VM may be gone, and its wires with it
                self._vm.ioctl(*self._undo.pop())
        self._line.close()
