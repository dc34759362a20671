"""The gdb server: one TCP port on this host, one gdb at a time, and a machine that stops and goes as it says.

    target remote :1234

Source: the GDB manual, appendix E, "Overview", "Packet Acknowledgment", "Interrupts".
"""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Self

from minivmm.debug.gdb import stops, stub
from minivmm.debug.gdb.model import Action, Debuggable, Reason, StopEvent
from minivmm.debug.gdb.packets import Odd, PacketReader, packet
from minivmm.debug.gdb.parse import Answer, Leave, Resume, Say
from minivmm.debug.gdb.session import Session
from minivmm.kvm.errors import KvmError

LOCALHOST = "127.0.0.1"  # whoever may talk to this port may do anything with the guest
CHUNK = 1 << 16
SAID = 1024  # bytes of text in one O packet


class GdbServer:
    """Serves `target` on `port` of this host (0: any free one; see `port`). A context manager.

    `monitor` answers gdb's `monitor` commands; `notice` gets a line for the person who runs the machine. Raises OSError
    where the port can't be had.
    """

    def __init__(
        self,
        target: Debuggable,
        port: int,
        *,
        monitor: Callable[[str], str] | None = None,
        notice: Callable[[str], object] = lambda text: None,
    ) -> None:
        self._target = target
        self._monitor = monitor
        self._notice = notice
        self._session = Session(target, monitor)
        self._listener = socket.create_server((LOCALHOST, port))
        self.port: int = self._listener.getsockname()[1]
        self._wake, self._waker = socket.socketpair()  # a byte says that the machine has stopped
        self._gdb: socket.socket | None = None
        self._reader = PacketReader()
        self._wake.setblocking(False)
        self._event: StopEvent | None = None  # what the waiter brought
        self._waiter = threading.Thread()
        self._actions: Mapping[int, Action] = {}
        self._running = False
        self._killed = False
        self._hurried = False  # a Ctrl-C came before what it should stop
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake, selectors.EVENT_READ, self._woken)

    def serve(self) -> StopEvent | None:
        """Serves until the guest's run has ended (how it did), or gdb has killed it or `stop` was called (None).

        The guest waits for the first gdb.
        """
        self._notice(f"The guest waits for gdb: target remote :{self.port}")
        while not (self._killed or self._is_over):
            for key, _ in self._selector.select():
                if key.fileobj is self._listener or key.fileobj is self._wake or key.fileobj is self._gdb:
                    key.data()
        return None if self._killed else self._session.last

    def stop(self) -> None:
        """Ends `serve`, from any thread."""
        self._killed = True
        self._waker.send(b"!")

    @property
    def _is_over(self) -> bool:
        # A guest that has died stays for gdb to look at; without gdb there is nobody to wait for.
        reason = self._session.last.reason
        return reason is Reason.ENDED or (reason is Reason.DIED and self._gdb is None)

    def close(self) -> None:
        """Stops the machine, closes the connections."""
        self._halt()
        self._hang_up()
        self._selector.close()
        for end in (self._listener, self._wake, self._waker):
            end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ---- the connection ----

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        while self._gdb is not None and select.select([self._gdb], [], [], 0)[0]:
            self._receive()  # perhaps its last words: who leaves and comes back at once is not turned away
        if self._gdb is not None or self._killed:  # one at a time: two would take each other's answers
            connection.close()
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._halt()
        self._gdb, self._reader = connection, PacketReader()
        self._session.attach()
        self._selector.register(connection, selectors.EVENT_READ, self._receive)

    def _hang_up(self) -> None:
        if self._gdb is not None:
            self._selector.unregister(self._gdb)
            self._gdb.close()
            self._gdb = None

    def _receive(self) -> None:
        try:
            received = self._gdb.recv(CHUNK) if self._gdb else b""
        except OSError:
            received = b""
        if not received:
            self._lost()
            return
        for part in self._reader.feed(received):
            if self._gdb is None or self._killed:
                return  # what came behind a detach or a kill
            self._handle(part)

    def _lost(self) -> None:
        """gdb is gone without a word. A guest that stood stays so, for whoever attaches next; one that ran goes on."""
        was_running = self._running
        self._halt()
        self._hang_up()
        self._session.points.clear()
        if was_running and not self._is_over:
            self._go(self._session.all_go)
        elif not self._is_over:
            self._notice(f"gdb has gone and the guest stands still: target remote :{self.port}, or Ctrl-C to end it.")

    def _send(self, data: bytes) -> None:
        if self._gdb is not None:
            with contextlib.suppress(OSError):  # it has gone: the next receive will say so
                self._gdb.sendall(data)

    def _say(self, text: str) -> None:
        """Shows text to gdb's user."""
        data = text.encode()
        for at in range(0, len(data), SAID):
            self._send(packet(b"O" + data[at : at + SAID].hex().encode()))

    # ---- packets ----

    def _handle(self, part: bytes | Odd) -> None:
        match part:
            case Odd.INTERRUPT:
                if self._running:
                    self._target.stop_all()
                self._hurried = not self._running
                return
            case Odd.CORRUPT:
                if not self._session.quiet:
                    self._send(b"-")  # again, please
                return
        if not self._session.quiet:
            self._send(b"+")
        if isinstance(part, Odd) or not part.startswith(b"vCont"):
            # gdb may send a Ctrl-C just before the `vCont;c` that it is meant for, but not before anything else.
            self._hurried = False
        if isinstance(part, Odd):
            self._send(packet(b"E.that packet is too long"))
        elif self._running:
            self._send(packet(b"E.the guest is running: Ctrl-C stops it"))
        else:
            answer = stub.handle(self._session, part)
            if part.startswith(b"Z") and isinstance(answer, bytes) and answer.startswith(b"E."):
                # gdb keeps the reason to itself and says "Cannot access memory".
                self._notice(f"gdb can't have that breakpoint: {answer[2:].decode()}.")
            self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        match answer:
            case bytes():
                self._send(packet(answer))
            case Say(text):
                self._say(text)
                self._send(packet(b"OK"))
            case Resume(actions):
                try:
                    self._go(actions)
                except KvmError as error:
                    self._send(packet(b"E." + str(error).encode("ascii", "replace")))
            case Leave(kill):
                self._send(packet(b"OK"))
                self._session.points.clear()
                self._hang_up()
                self._killed = kill
                if not kill and not self._is_over:
                    self._go(self._session.all_go)

    # ---- the machine ----

    def _go(self, actions: Mapping[int, Action], inject: int | None = None) -> None:
        """Lets vCPUs go, and has a thread wait for their stop. Raises KvmError."""
        self._session.arm(actions, inject)
        self._actions, self._running, self._event = actions, True, None
        self._target.resume(actions)
        self._waiter = threading.Thread(target=self._wait, name="minivmm gdb", daemon=True)
        self._waiter.start()
        if self._hurried:
            self._hurried = False
            self._target.stop_all()

    def _wait(self) -> None:
        self._event = self._target.wait_stop()
        self._waker.send(b"!")

    def _stopped(self) -> StopEvent | None:
        """Takes in that the machine has stopped. None where that is known already."""
        with contextlib.suppress(BlockingIOError):
            self._wake.recv(1)
        if not self._running or self._event is None:
            return None
        self._running = False
        self._session.stopped(self._event)
        return self._event

    def _woken(self) -> None:
        event = self._stopped()
        if event is None:
            return
        inject = stops.foreign(self._session, event, self._actions.get(event.cpu))
        if inject is not None:
            self._go(self._actions, inject)
            return
        self._say(event.text + "\n" if event.text else stops.mode_changed(self._session))
        self._send(packet(stops.stop_reply(self._session)))

    def _halt(self) -> None:
        """Stops the machine, if it runs, and waits for it."""
        if self._running:
            self._target.stop_all()
            self._waiter.join()
            self._stopped()
