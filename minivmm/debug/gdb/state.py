"""Commands that read and write registers and memory, and set points.

Source: the GDB manual, appendix E, "Packets": g G p P, m M X, Z z.
"""

from __future__ import annotations

from collections.abc import Callable

from minivmm.debug.gdb import parse
from minivmm.debug.gdb.features import Register
from minivmm.debug.gdb.memory import NoMemoryError
from minivmm.debug.gdb.packets import LONGEST
from minivmm.debug.gdb.parse import OK, Answer, CommandError
from minivmm.debug.gdb.registers import Registers, read_all, shown, write_all
from minivmm.debug.gdb.session import Session
from minivmm.kvm.errors import KvmError

MOST = LONGEST // 2 - 8  # bytes of memory in one answer, each of them two digits

# ---- registers ----


def read_registers(session: Session, rest: bytes) -> Answer:
    return read_all(session.registers(session.cpu), session.description).encode()


def write_registers(session: Session, rest: bytes) -> Answer:
    data, description = parse.hex_bytes(rest), session.description
    return _change(session, lambda registers: write_all(registers, description, data))


def read_register(session: Session, rest: bytes) -> Answer:
    one = _register(session, rest)
    return shown(session.registers(session.cpu).read(one.name, one.size), one.size).encode()


def write_register(session: Session, rest: bytes) -> Answer:
    number, _, value = rest.partition(b"=")
    one, data = _register(session, number), parse.hex_bytes(value)
    if len(data) != one.size:
        raise CommandError(f"{one.name} has {one.size} bytes, not {len(data)}")
    return _change(session, lambda registers: registers.write(one.name, data))


def set_program_counter(session: Session, address: int) -> None:
    _change(session, lambda registers: registers.write("rip", address.to_bytes(8, "little")))


def _register(session: Session, number: bytes) -> Register:
    index = parse.number(number)
    if index >= len(session.description.registers):
        raise CommandError(f"there is no register {index}")
    return session.description.registers[index]


def _change(session: Session, change: Callable[[Registers], None]) -> Answer:
    registers = session.registers(session.cpu)
    try:
        change(registers)
        registers.flush()
    except (ValueError, KvmError):
        session.forget()  # the copy is no longer what the vCPU has
        raise
    return OK


# ---- memory ----


def read_memory(session: Session, rest: bytes) -> Answer:
    address, size = parse.address_and_size(rest)
    pieces = session.memory.read(address, min(size, MOST))
    return b"".join(session.points.hidden(gpa, data) for gpa, data in pieces).hex().encode()


def write_hex(session: Session, rest: bytes) -> Answer:
    where, _, data = rest.partition(b":")
    return _write(session, where, parse.hex_bytes(data))


def write_binary(session: Session, rest: bytes) -> Answer:
    where, _, data = rest.partition(b":")
    return _write(session, where, data)


def _write(session: Session, where: bytes, data: bytes) -> Answer:
    address, size = parse.address_and_size(where)
    if size != len(data):
        raise CommandError(f"the packet says {size} bytes and has {len(data)}")
    memory = session.target.memory
    try:
        pieces = list(session.memory.pieces(address, size))
        for gpa, here in pieces:
            memory.read(gpa, here)  # all of it is there, or nothing is written
    except ValueError as error:
        raise NoMemoryError(str(error)) from None
    done = 0
    for gpa, here in pieces:
        memory.write(gpa, session.points.kept(gpa, data[done : done + here]))
        done += here
    session.forget()  # descriptor tables and page tables are memory too
    return OK


# ---- points ----


def insert_point(session: Session, rest: bytes) -> Answer:
    session.points.insert(parse.point(rest), session.memory)
    return OK


def remove_point(session: Session, rest: bytes) -> Answer:
    session.points.remove(parse.point(rest))
    return OK
