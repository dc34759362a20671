"""What kind of exit it was, in one word, and the facts of it that a trace shows.

Source: KVM API, "5. The kvm_run structure".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minivmm import exits
from minivmm.bus import Bus
from minivmm.exits import Exit, MmioRead, MmioWrite, PortIn, PortOut, ReadMsr, WriteMsr

OTHER = "other"
KICK = "kick"

# The words of a trace, of its filter and of its summary.
KINDS: dict[type[Exit], str] = {
    exits.PortIn: "in",
    exits.PortOut: "out",
    exits.MmioRead: "read",
    exits.MmioWrite: "write",
    exits.Halted: "hlt",
    exits.ReadMsr: "rdmsr",
    exits.WriteMsr: "wrmsr",
    exits.Hypercall: "hypercall",
    exits.InterruptWindow: "window",
    exits.IoapicEoi: "eoi",
    exits.Interrupted: KICK,
    exits.Debug: "debug",
    exits.SystemEvent: "system",
    exits.Shutdown: "shutdown",
    exits.InternalError: "error",
    exits.FailEntry: "error",
}
GROUPS = {"io": ("in", "out"), "mmio": ("read", "write"), "msr": ("rdmsr", "wrmsr")}
WORDS = (*GROUPS, *dict.fromkeys(KINDS.values()), OTHER)


def kind_of(exit: Exit) -> str:
    """The word for an exit; "other" for the rare ones."""
    return KINDS.get(type(exit), OTHER)


def device_finder(ports: Bus | None, mmio: Bus | None) -> Callable[[Exit], str]:
    """A function that names the device that serves an exit: "" where the exit is no access, or nobody answers."""

    def name(exit: Exit) -> str:
        match exit:
            case PortIn() | PortOut():
                device = ports.device_at(exit.port) if ports else None
            case MmioRead() | MmioWrite():
                device = mmio.device_at(exit.address) if mmio else None
            case _:
                return ""
        return device.name if device else ""

    return name


def facts(exit: Exit) -> dict[str, Any]:
    """The numbers of an exit, for a machine to read. Call it once the exit is served: a read then has its answer."""
    match exit:
        case PortOut():
            return {"port": exit.port, "size": exit.size, "count": exit.count, "data": exit.data.hex()}
        case PortIn():
            return {"port": exit.port, "size": exit.size, "count": exit.count, "data": bytes(exit.buffer).hex()}
        case MmioWrite():
            return {"address": exit.address, "size": exit.size, "data": exit.data.hex()}
        case MmioRead():
            return {"address": exit.address, "size": exit.size, "data": bytes(exit.buffer).hex()}
        case ReadMsr():
            return {"msr": exit.index, "value": int(exit.run.msr.data)}
        case WriteMsr():
            return {"msr": exit.index, "value": exit.value}
    return {}
