"""What goes wrong with virtio, told apart by whose mistake it was."""

from __future__ import annotations


class DriverError(Exception):
    """The driver, that is the guest, broke a rule of the specification; the text says which, and where.

    It never leaves `minivmm.virtio`: the transport answers it with DEVICE_NEEDS_RESET and keeps the text in `error`.
    """


class DiskImageError(ValueError):
    """A disk image that can't be used; the text says why and what to do."""
