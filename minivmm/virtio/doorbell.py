"""A doorbell: what one thread, or KVM itself, rings to wake another that waits for many.

On Linux it is an eventfd, which KVM can ring without leaving the kernel (KVM_IOEVENTFD) and which can ring KVM
(KVM_IRQFD). Elsewhere a pair of sockets does what the software backend needs.

Source: eventfd(2).
"""

from __future__ import annotations

import contextlib
import os
import socket
from threading import Lock


class Doorbell:
    """Ringing ten times before anybody looks is ringing once."""

    def __init__(self) -> None:
        self._open = Lock()  # a number that was closed may be another file's the next moment: never ring that
        if hasattr(os, "eventfd"):
            self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._sockets: tuple[socket.socket, ...] = ()
        else:
            self._sockets = socket.socketpair()
            for end in self._sockets:
                end.setblocking(False)
            self._fd = self._sockets[0].fileno()

    @property
    def is_eventfd(self) -> bool:
        return not self._sockets

    def fileno(self) -> int:
        """What select, poll and KVM wait for; -1 when closed."""
        return self._fd

    def ring(self) -> None:
        """From any thread; on a closed one it does nothing."""
        with self._open, contextlib.suppress(BlockingIOError):  # so full of rings that it surely is heard
            if self._fd < 0:
                return  # nobody is at home any more
            if self._sockets:
                self._sockets[1].send(b"!")
            else:
                os.eventfd_write(self._fd, 1)

    def clear(self) -> bool:
        """Forgets the rings so far. Returns whether there were any."""
        with contextlib.suppress(BlockingIOError):
            return bool(self._sockets[0].recv(4096) if self._sockets else os.eventfd_read(self._fd))
        return False

    def close(self) -> None:
        """A second call does nothing."""
        with self._open:
            fd, self._fd = self._fd, -1
            for end in self._sockets:
                end.close()
            if fd >= 0 and not self._sockets:
                os.close(fd)
