"""The probes that are guests: guests/probes/*, each of which writes 0x10 to the debug-exit port if all went well."""

from __future__ import annotations

from functools import partial

from minivmm import guests
from minivmm.doctor.probe import TIMEOUT, FailedError, Probe, expect
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine, Stop

PASSED = 0x10 << 1 | 1
ELSEWHERE = "use a host with VT-x or AMD-V."
REMEDIES = {
    "real": "Nothing can start without real mode: check the host's kernel log (dmesg) for KVM's messages.",
    "protected": "For guests in 32-bit protected mode " + ELSEWHERE,
    "limits": "For guests that rely on the limits of segments " + ELSEWHERE,
    "long": "For 64-bit guests " + ELSEWHERE,
    "paging32": "Page in long mode; for guests with 32-bit page tables " + ELSEWHERE,
    "pae": "Page in long mode; for guests with PAE page tables " + ELSEWHERE,
    "ring3": "For guests with user code " + ELSEWHERE,
    "syscall": "Enter the kernel through an IDT gate (INT3, UD2); for guests that use SYSCALL " + ELSEWHERE,
    "interrupts": "For guests that call interrupt handlers in real mode " + ELSEWHERE,
    "exceptions": "For guests that handle exceptions " + ELSEWHERE,
    "software-interrupt": "Call the handler directly; for guests that use INT n in ring 0 " + ELSEWHERE,
    "string-io": "Use a loop of IN or OUT; for guests that use REP INS and REP OUTS " + ELSEWHERE,
    "mmio": "Use ports; for guests with memory-mapped devices " + ELSEWHERE,
    "hlt": "End guests by a write to the debug-exit port 0xF4 instead of HLT.",
    "x87": "Use integers; for guests with floating point in ring 0 " + ELSEWHERE,
    "sse": "Build guests with -mgeneral-regs-only; for those that use SSE in ring 0 " + ELSEWHERE,
}
OTHERWISE = "For guests that need this " + ELSEWHERE
OTHER_PROBES = ("single-step",)  # a question about the API, asked there


def guest_probes() -> list[Probe]:
    """One probe for each guest in guests/probes, those first that others build upon."""
    folders = [name.removeprefix("probes/") for name in guests.probes()]
    order = {name: place for place, name in enumerate(REMEDIES)}
    wanted = sorted(
        (name for name in folders if name not in OTHER_PROBES), key=lambda name: order.get(name, len(order))
    )
    return [_probe(name) for name in wanted]


def _probe(name: str) -> Probe:
    title = guests.load(f"probes/{name}").title
    return Probe(name, title, partial(_run, name), REMEDIES.get(name, OTHERWISE))


def _run(name: str, backend: Backend) -> str:
    with Machine(backend=backend) as machine:
        # With no CPUID at all KVM lets no guest set EFER.LME or NXE.
        machine.vcpu.set_cpuid(machine.vm.supported_cpuid())
        machine.load_guest(guests.load(f"probes/{name}"))
        if name == "hlt":
            stop = machine.run(TIMEOUT)
            expect(stop.reason == "halted", f"HLT did not leave the guest: {_seen(stop)}")
        _passed(machine.run(TIMEOUT))
    return ""


def _passed(stop: Stop) -> None:
    if stop.exit_code != PASSED:
        raise FailedError(_seen(stop))


def _seen(stop: Stop) -> str:
    if stop.reason == "timeout":
        return f"it hangs: no answer within {TIMEOUT} s"
    if stop.reason == "died" and stop.explanation is not None:
        return stop.explanation.cause
    if stop.reason == "debug-exit":
        return "the code runs, but its result is wrong"
    return f"it stopped without an answer ({stop})"
