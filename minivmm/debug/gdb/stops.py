"""Why the machine stands still, in gdb's words.

Source: the GDB manual, appendix E, "Stop Reply Packets".
"""

from __future__ import annotations

from minivmm.debug.gdb.model import Action, Reason, StopEvent
from minivmm.debug.gdb.points import BREAKPOINT, Kind, Point
from minivmm.debug.gdb.session import Session
from minivmm.kvm import constants as k

SIGINT, SIGTRAP, SIGSEGV = 2, 5, 11  # gdb's own numbers (include/gdb/signals.def)
SIGNALS = {Reason.ASKED: SIGINT, Reason.DEBUG: SIGTRAP, Reason.DIED: SIGSEGV}


def stop_reply(session: Session, rest: bytes = b"") -> bytes:
    """The answer to `?`, and what follows a Resume once the machine has stopped."""
    event = session.last
    if event.reason is Reason.ENDED:
        return b"W%02x" % (event.code & 0xFF)
    point = _point(session, event)
    why = _in_words(session, point) if point else ""
    return f"T{SIGNALS[event.reason]:02x}{why}thread:{event.cpu + 1:x};".encode()


def foreign(session: Session, event: StopEvent, action: Action | None) -> int | None:
    """None for a stop of ours; the KVM_GUESTDBG_INJECT_* that gives the guest its own exception back.

    While we have points, KVM hands us every #BP and #DB. One that neither a point nor a step explains is the guest's:
    an INT3 in its code, or a trap it has set for itself.
    """
    if event.reason is not Reason.DEBUG or event.exit is None or _point(session, event):
        return None
    if event.exit.exception == BREAKPOINT:
        return k.KVM_GUESTDBG_INJECT_BP
    return None if action is Action.STEP else k.KVM_GUESTDBG_INJECT_DB


def mode_changed(session: Session) -> str:
    """A sentence for gdb's user where the vCPU is no longer in the mode that gdb was told; else ""."""
    now, told = session.fitting(), session.description
    if now is told:
        return ""
    return (
        f"minivmm: the guest is {now.architecture} by now, and gdb takes it for {told.architecture}. "
        "Type `disconnect`, then `target remote` again, to see it right.\n"
    )


def _point(session: Session, event: StopEvent) -> Point | None:
    exit = event.exit
    return session.points.hit(exit.exception, exit.pc, exit.dr6) if exit else None


def _in_words(session: Session, point: Point) -> str:
    match point.kind:
        case Kind.WRITE:
            return f"watch:{point.address:x};"
        case Kind.ACCESS:
            return f"awatch:{point.address:x};"
        case Kind.SOFTWARE:
            return "swbreak:;" if "swbreak" in session.reports else ""
        case _:
            return "hwbreak:;" if "hwbreak" in session.reports else ""
