"""Commands that let the machine go.

Source: the GDB manual, appendix E, "Packets": c s C S vCont.
"""

from __future__ import annotations

from minivmm.debug.gdb import parse
from minivmm.debug.gdb.model import Action, Reason, StopEvent
from minivmm.debug.gdb.parse import Answer, CommandError, Resume
from minivmm.debug.gdb.session import Session
from minivmm.debug.gdb.state import set_program_counter
from minivmm.debug.gdb.stops import stop_reply

ACTIONS = {b"c": Action.CONTINUE, b"C": Action.CONTINUE, b"s": Action.STEP, b"S": Action.STEP}


def go_on(session: Session, rest: bytes) -> Answer:
    """c [address]: all vCPUs."""
    return _go(session, rest, session.all_go)


def step(session: Session, rest: bytes) -> Answer:
    """s [address]: the selected one alone."""
    return _go(session, rest, {session.cpu: Action.STEP})


def go_on_with_signal(session: Session, rest: bytes) -> Answer:
    """C signal[;address]: a machine takes no signals."""
    return go_on(session, rest.partition(b";")[2])


def step_with_signal(session: Session, rest: bytes) -> Answer:
    """S signal[;address]."""
    return step(session, rest.partition(b";")[2])


def vcont(session: Session, rest: bytes) -> Answer:
    """vCont;action:thread;…: for each vCPU the first action that names it, or names nobody."""
    actions: dict[int, Action] = {}
    for part in rest.split(b";")[1:]:
        word, _, thread = part.partition(b":")
        action = ACTIONS.get(word[:1])
        if action is None:
            raise CommandError("vCont takes c, C, s and S")
        everyone = thread in (b"", b"-1", b"0")
        for cpu in session.all_go if everyone else (session.thread(thread),):
            actions.setdefault(cpu, action)
    if not actions:
        raise CommandError("vCont needs an action")
    return _go(session, b"", actions)


def _go(session: Session, address: bytes, actions: dict[int, Action]) -> Answer:
    last = session.last
    if last.reason in (Reason.DIED, Reason.ENDED):  # there is nothing that could go on
        session.last = StopEvent(last.cpu, Reason.ENDED, code=last.code)
        return stop_reply(session)
    if not session.target.abilities.step and Action.STEP in actions.values():
        raise CommandError("this backend can't step: set a breakpoint and continue")
    if address:
        set_program_counter(session, parse.number(address))
    return Resume(actions)
