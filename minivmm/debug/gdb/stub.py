"""The commands of the gdb remote serial protocol, answered while the machine stands still.

`handle` takes the data of one packet and returns the data of the answer, or what is to happen: the machine goes on, gdb
leaves, the machine ends. A command that we don't have gets the empty answer, which is how gdb learns it.

Source: the GDB manual, appendix E, "Packets".
"""

from __future__ import annotations

from collections.abc import Callable

from minivmm.debug.gdb import queries, running, state, stops
from minivmm.debug.gdb.memory import NoMemoryError
from minivmm.debug.gdb.parse import NONE, OK, Answer, Leave
from minivmm.debug.gdb.points import UnsupportedError
from minivmm.debug.gdb.session import Session
from minivmm.kvm.errors import KvmError

Command = Callable[[Session, bytes], Answer]
EFAULT = b"E0e"  # gdb says "Cannot access memory at address …"


def always(answer: Answer) -> Command:
    return lambda session, rest: answer


# By how they begin; the longer one first where one begins like another.
COMMANDS: tuple[tuple[bytes, Command], ...] = (
    (b"qSupported", queries.supported),
    (b"qXfer:features:read:", queries.target_xml),
    (b"QStartNoAckMode", queries.no_acknowledgements),
    (b"qfThreadInfo", queries.threads),
    (b"qsThreadInfo", always(b"l")),  # the first answer had them all
    (b"qThreadExtraInfo,", queries.thread_in_words),
    (b"qAttached", always(b"1")),  # so that gdb's `quit` lets the machine go on
    (b"qSymbol", always(OK)),
    (b"qRcmd,", queries.monitor),
    (b"qC", queries.current_thread),
    (b"H", queries.select_thread),
    (b"T", queries.is_alive),
    (b"?", stops.stop_reply),
    (b"g", state.read_registers),
    (b"G", state.write_registers),
    (b"p", state.read_register),
    (b"P", state.write_register),
    (b"m", state.read_memory),
    (b"M", state.write_hex),
    (b"X", state.write_binary),
    (b"Z", state.insert_point),
    (b"z", state.remove_point),
    (b"vCont?", always(b"vCont;c;C;s;S")),
    (b"vCont", running.vcont),
    (b"c", running.go_on),
    (b"s", running.step),
    (b"C", running.go_on_with_signal),
    (b"S", running.step_with_signal),
    (b"vKill", always(Leave(kill=True))),
    (b"k", always(Leave(kill=True))),
    (b"D", always(Leave(kill=False))),
)


def handle(session: Session, packet: bytes) -> Answer:
    """The answer to a packet. Never raises for what is in it."""
    found = next((each for each in COMMANDS if packet.startswith(each[0])), None)
    if found is None:
        return NONE
    prefix, command = found
    try:
        return command(session, packet[len(prefix) :])
    except UnsupportedError:
        return NONE
    except NoMemoryError:
        return EFAULT
    except (ValueError, KvmError) as error:  # a CommandError; a state that KVM or the architecture refuses
        return b"E." + " ".join(str(error).split()).encode("ascii", "replace")
