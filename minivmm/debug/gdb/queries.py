"""Commands that ask about the machine and its threads, and the one that talks to the monitor.

Source: the GDB manual, appendix E, "General Query Packets"; H and T in "Packets".
"""

from __future__ import annotations

import re

from minivmm.debug.gdb import parse
from minivmm.debug.gdb.packets import LONGEST
from minivmm.debug.gdb.parse import NONE, OK, Answer, CommandError, Say
from minivmm.debug.gdb.session import Session
from minivmm.x86.modes import mode_of

SUPPORTED = f"PacketSize={LONGEST:x};qXfer:features:read+;vContSupported+;QStartNoAckMode+;swbreak+;hwbreak+".encode()


def supported(session: Session, rest: bytes) -> Answer:
    session.reports = {name.decode("ascii", "replace").rstrip("+") for name in rest.lstrip(b":").split(b";")}
    return SUPPORTED


def target_xml(session: Session, rest: bytes) -> Answer:
    match = re.fullmatch(rb"target\.xml:([0-9a-fA-F]{1,8}),([0-9a-fA-F]{1,8})", rest)
    if not match:
        raise CommandError("the only document here is target.xml")
    document, at = session.description.xml.encode(), int(match[1], 16)
    size = min(int(match[2], 16), LONGEST // 2)
    return (b"m" if at + size < len(document) else b"l") + document[at : at + size]


def no_acknowledgements(session: Session, rest: bytes) -> Answer:
    session.quiet = True
    return OK


def threads(session: Session, rest: bytes) -> Answer:
    return b"m" + b",".join(b"%x" % (cpu + 1) for cpu in range(len(session.target.cpus)))


def thread_in_words(session: Session, rest: bytes) -> Answer:
    cpu = session.thread(rest)
    registers = session.registers(cpu)
    return f"vCPU {cpu}, {mode_of(registers.sregs, registers.regs)}".encode().hex().encode()


def current_thread(session: Session, rest: bytes) -> Answer:
    return b"QC%x" % (session.cpu + 1)


def select_thread(session: Session, rest: bytes) -> Answer:
    # Hg: the thread that the commands to come are about. Hc, for c and s: vCont has replaced it.
    if rest[:1] == b"g" and rest[1:] not in (b"0", b"-1"):
        session.cpu = session.thread(rest[1:])
    return OK


def is_alive(session: Session, rest: bytes) -> Answer:
    session.thread(rest)
    return OK


def monitor(session: Session, rest: bytes) -> Answer:
    if session.monitor is None:
        return NONE
    answer = session.monitor(parse.hex_bytes(rest).decode("utf-8", "replace"))
    session.forget()  # a command may have changed registers
    return Say(answer.rstrip("\n") + "\n") if answer else OK
