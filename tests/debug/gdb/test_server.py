"""The server on its port: acknowledgements, Ctrl-C, connections that come and go, and clients that know no manners."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minivmm.debug.gdb import Action, GdbServer, Reason, StopEvent
from minivmm.debug.gdb.packets import PacketReader, packet
from minivmm.exits import Debug

sys.path.append(str(Path(__file__).parents[1]))
from fake_machine import FakeMachine

PATIENCE = 20
BOTH = {0: Action.CONTINUE, 1: Action.CONTINUE}
ENDED = StopEvent(0, Reason.ENDED, code=3)


class Client:
    """A gdb of few words."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._reader = PacketReader()
        self._packets: list[bytes] = []
        self.noise = b""

    def send(self, *commands: bytes) -> None:
        for command in commands:
            self.socket.sendall(packet(command))

    def packet(self) -> bytes:
        """The next packet from the server; empty where it has hung up."""
        while not self._packets:
            received = self.socket.recv(1 << 16)
            if not received:
                return b""
            self.noise += bytes(byte for byte in received if byte in b"+-")
            self._packets += [part for part in self._reader.feed(received) if isinstance(part, bytes)]
        return self._packets.pop(0)

    def ask(self, command: bytes) -> bytes:
        self.send(command)
        return self.packet()

    def close(self) -> None:
        self.socket.close()


class Served:
    """A server in its thread, with all that it said to the person who runs the machine."""

    def __init__(self, *stops: StopEvent | None) -> None:
        self.machine = FakeMachine("long", stops)
        self.clients: list[Client] = []
        self.notices: list[str] = []
        self.server = GdbServer(self.machine, 0, monitor=lambda line: line * 1000, notice=self.notices.append)
        self.result: list[StopEvent | None] = []
        self.thread = threading.Thread(target=lambda: self.result.append(self.server.serve()), daemon=True)
        self.thread.start()

    def client(self) -> Client:
        self.clients.append(Client(self.server.port))
        return self.clients[-1]

    def close(self) -> None:
        for client in self.clients:
            client.close()
        if self.thread.is_alive():
            self.client().send(b"k")
        self.thread.join(PATIENCE)
        self.clients[-1].close()
        self.server.close()

    def over(self) -> StopEvent | None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.result[0]


@contextmanager
def serving(*stops: StopEvent | None) -> Iterator[Served]:
    served = Served(*stops)
    try:
        yield served
    finally:
        served.close()


def test_asking_and_acknowledging() -> None:
    with serving() as served:
        client = served.client()
        assert served.notices == [f"The guest waits for gdb: target remote :{served.server.port}"]
        assert client.ask(b"?") == b"T02thread:1;"
        assert client.ask(b"qC") == b"QC1"
        assert client.noise == b"++"
        client.socket.sendall(b"$qC#00")  # a wrong checksum
        client.send(b"qC")
        assert client.packet() == b"QC1"
        assert client.noise == b"++-+"
        assert client.ask(b"QStartNoAckMode") == b"OK"
        client.socket.sendall(b"$qC#00")
        assert client.ask(b"qC") == b"QC1"
        assert client.noise == b"++-++"
        client.socket.sendall(b"$" + b"x" * 50_000 + b"#00")
        assert client.packet() == b"E.that packet is too long"
        client.send(b"k")
        assert served.over() is None


def test_a_breakpoint_then_the_end() -> None:
    with serving(StopEvent(1, Reason.DEBUG, Debug(1, 0x1000, 0xFF1, 0)), ENDED) as served:
        client = served.client()
        client.ask(b"qSupported:hwbreak+")
        assert client.ask(b"Z1,1000,1") == b"OK"
        client.send(b"vCont;c")
        while (answer := client.packet()).startswith(b"O"):  # vCPU 1 is in another mode: a word about that
            assert b"target remote" in bytes.fromhex(answer[1:].decode())
        assert answer == b"T05hwbreak:;thread:2;"
        assert client.ask(b"qC") == b"QC2"
        assert client.ask(b"c") == b"W03"
        assert served.over() == ENDED
        assert served.machine.resumed == [BOTH, BOTH]


def test_ctrl_c() -> None:
    with serving() as served:
        client = served.client()
        client.socket.sendall(b"\x03")  # nothing runs: nothing happens
        client.send(b"c")
        client.send(b"g")
        assert client.packet() == b"E.the guest is running: Ctrl-C stops it"
        client.socket.sendall(b"\x03")
        assert client.packet() == b"T02thread:1;"
        assert client.ask(b"qC") == b"QC1"


def test_a_ctrl_c_that_comes_a_moment_too_early() -> None:
    with serving() as served:
        client = served.client()
        client.socket.sendall(b"\x03")
        client.send(b"vCont?", b"vCont;c")
        assert client.packet() == b"vCont;c;C;s;S"
        assert client.packet() == b"T02thread:1;"
        client.socket.sendall(b"\x03")  # one that comes late: it is not for what is asked next
        assert client.ask(b"qC") == b"QC1"
        client.send(b"vCont;c")
        time.sleep(0.1)
        assert client.ask(b"qC") == b"E.the guest is running: Ctrl-C stops it"


def test_stopping_the_server() -> None:
    with serving() as served:
        served.client().send(b"c")
        served.server.stop()
        assert served.over() is None


def test_an_exception_of_the_guests_own_goes_back_to_it() -> None:
    with serving(StopEvent(0, Reason.DEBUG, Debug(1, 0x1000, 0xFFFF_4FF0, 0)), ENDED) as served:
        assert served.client().ask(b"c") == b"W03"
        assert served.machine.resumed == [BOTH, BOTH]


def test_a_death_is_explained_to_gdb() -> None:
    died = StopEvent(0, Reason.DIED, code=125, text="A triple fault." * 100)
    with serving(died) as served:
        client = served.client()
        client.send(b"c")
        said = b""
        while (answer := client.packet()).startswith(b"O"):
            said += bytes.fromhex(answer[1:].decode())
        assert said.decode() == died.text + "\n"
        assert answer == b"T0bthread:1;"
        assert len(client.ask(b"g")) > 100
        assert client.ask(b"c") == b"W7d"
        assert served.over() == StopEvent(0, Reason.ENDED, code=125)


def test_long_monitor_answers_come_in_pieces() -> None:
    with serving() as served:
        client = served.client()
        client.send(b"qRcmd," + b"exits".hex().encode())
        pieces = []
        while (answer := client.packet()) != b"OK":
            pieces.append(bytes.fromhex(answer[1:].decode()))
        assert len(pieces) > 1
        assert b"".join(pieces) == b"exits" * 1000 + b"\n"


def test_detaching_lets_the_guest_run_to_its_end() -> None:
    with serving(ENDED) as served:
        client = served.client()
        assert client.ask(b"Z0,1000,1") == b"OK"
        assert client.ask(b"D") == b"OK"
        assert served.over() == ENDED
        assert served.machine.resumed == [BOTH]
        assert [cpu.debug[0] for cpu in served.machine.cpus] == [0, 0]


def test_a_guest_that_stood_still_does_so_when_gdb_is_lost() -> None:
    with serving() as served:
        first = served.client()
        assert first.ask(b"Z0,1000,1") == b"OK"
        first.close()
        second = served.client()
        assert second.ask(b"?") == b"T02thread:1;"
        assert served.machine.resumed == []
        assert "gdb has gone and the guest stands still" in served.notices[-1]
        second.send(b"s")
        second.socket.sendall(b"\x03")
        assert second.packet() == b"T02thread:1;"
        assert served.machine.cpus[0].debug[1] == [0] * 8  # the breakpoint went with its gdb


def test_a_guest_that_ran_goes_on_when_gdb_is_lost_and_stops_for_the_next() -> None:
    with serving() as served:
        first = served.client()
        first.send(b"Z0,1000,1", b"vCont;c")
        assert first.packet() == b"OK"
        first.close()
        second = served.client()
        assert second.ask(b"?") == b"T02thread:1;"
        assert served.machine.resumed[:2] in ([BOTH], [BOTH, BOTH])


def test_a_second_gdb_is_turned_away() -> None:
    with serving() as served:
        first = served.client()
        assert first.ask(b"qC") == b"QC1"
        second = served.client()
        assert second.packet() == b""
        assert first.ask(b"qC") == b"QC1"


def test_closing_while_the_guest_runs() -> None:
    machine = FakeMachine()
    server = GdbServer(machine, 0)
    server._go(BOTH)
    server.close()
    assert machine.resumed == [BOTH]
    assert not server._running


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        GdbServer(FakeMachine(), taken.getsockname()[1])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.binary(max_size=60) | st.builds(packet, st.binary(max_size=20)), max_size=20))
def test_no_client_brings_it_down(pieces: list[bytes]) -> None:
    with serving() as served:
        rude = served.client()
        try:
            for piece in pieces:
                rude.socket.sendall(piece)
        except OSError:
            pass  # it has been sent away: something in there was a kill
        rude.close()
        if served.thread.is_alive() and not any(b"k" in piece for piece in pieces):
            polite = served.client()
            polite.socket.sendall(b"\x03")
            assert polite.ask(b"qfThreadInfo") in (b"m1,2", b"T02thread:1;")
            polite.close()
