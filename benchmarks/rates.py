"""How many exits of each kind a second, through the full run loop: tiny guests that do nothing else; and what a boot of
Linux consists of.

Interrupts and HLT are measured with the interrupt controllers of KVM and with our own, where each costs exits: one to
tell the 8259A that it is over, and HLT itself.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Group
from rich.table import Table

from benchmarks.exits import HOLE, PORT, Counter
from benchmarks.linux import FIRST, make_guest
from benchmarks.qemu import APPEND, MEMORY, CannotMeasureError
from benchmarks.tables import new_table
from minivmm.accel import LINUX, NoBackendError, choose
from minivmm.kvm.seam import Backend
from minivmm.machine import Machine
from minivmm.machine.pc import Pc
from minivmm.trace import TraceFilter, Tracer

TIMES = 5_000
ROUNDS = 5
IRQ, VECTOR, HANDLER = 5, 0x20 + 5, 0x1100
# Real mode. The 8259A: ICW1 to ICW4 (vectors from 20H on), all unmasked; then dx = PORT, a stack.
PIC = "fa b011e620 b020e621 b004e621 b001e621 b000e621 ba1005 bc0080"
END_OF_INTERRUPT = bytes.fromhex("b020e620 cf")  # mov al, 20H; out 20H, al; iret
GUESTS = {  # kind → mode, irqchip, code
    "out": ("real", "none", "ba1005 ee ebfd"),  # out dx, al; jmp
    "in": ("real", "none", "ba1005 ec ebfd"),  # in al, dx; jmp
    "mmio write": ("protected", "none", "bb00000a00 8803 ebfc"),  # mov [ebx], al; jmp
    "mmio read": ("protected", "none", "bb00000a00 8a03 ebfc"),  # mov al, [ebx]; jmp
    "out, irq (irqchip kernel)": ("real", "kernel", f"{PIC} fb ee ebfd"),  # sti; out dx, al; jmp
    "out, irq (irqchip user)": ("real", "user", f"{PIC} fb ee ebfd"),
    "out, hlt, irq (irqchip kernel)": ("real", "kernel", f"{PIC} fa ee fb f4 ebfa"),  # cli; out dx, al; sti; hlt; jmp
    "out, hlt, irq (irqchip user)": ("real", "user", f"{PIC} fa ee fb f4 ebfa"),
}


def measure() -> Group:
    return Group(loops(available()), *(boot(backend) for backend in available(LINUX)))


def available(*needs: str) -> list[Backend]:
    """The backends of this host that have what a guest needs."""
    found = []
    for name in ("kvm", "soft"):
        with suppress(NoBackendError):
            found.append(choose(name, needs).backend)
    return found


# ---- tiny guests ----


def loops(backends: list[Backend]) -> Table:
    title = f"exits by kind ({ROUNDS} rounds of {TIMES})"
    table = new_table(
        title,
        ("backend", "in each turn of the loop", "turns/s, median", "turns/processor s", "ratio to out"),
        busy=True,
    )
    for backend in backends:
        taken: dict[str, list[tuple[float, float]]] = {kind: [] for kind in GUESTS}
        # Guests that did not come through, and how they ended. QEMU's VMRUN forgets the shadow of STI: in the box those
        # that halt take their interrupt before the HLT some day, and sleep for good.
        ended: dict[str, str] = {}
        machines = {kind: prepared(backend, kind) for kind in GUESTS}
        for _ in range(ROUNDS):
            for kind, (machine, meter) in machines.items():
                if kind in ended:
                    continue
                meter.left = TIMES
                start, start_cpu = time.perf_counter(), time.process_time()
                stop = machine.run(60)
                if stop.reason != "asked":
                    ended[kind] = stop.reason
                    continue
                taken[kind].append((time.perf_counter() - start, time.process_time() - start_cpu))
        for machine, _ in machines.values():
            machine.close()
        if "out" in ended:
            raise CannotMeasureError(f"The guest of 'out', to which the others are compared: {ended['out']}.")
        for kind, times in taken.items():
            if kind in ended:
                table.add_row(backend.name, kind, ended[kind], "–", "–")
                continue
            walls, cpus = ([TIMES / seconds for seconds in column] for column in zip(*times, strict=True))
            ratio = statistics.median(b / a for (_, a), (_, b) in zip(times, taken["out"], strict=True))
            table.add_row(
                *(backend.name, kind, f"{statistics.median(walls):.0f}", f"{statistics.median(cpus):.0f}"),
                f"{ratio:.2f}",
            )
    return table


def prepared(backend: Backend, kind: str) -> tuple[Machine, Counter]:
    mode, irqchip, code = GUESTS[kind]
    machine = Machine(0, backend, irqchip=irqchip)
    machine.memory.add(0, HOLE)
    machine.load(4 * VECTOR, HANDLER.to_bytes(2, "little") + bytes(2))  # offset and segment: an entry of the IVT
    machine.load(HANDLER, END_OF_INTERRUPT)
    machine.load(0x1000, bytes.fromhex(code))
    machine.enter("protected" if mode == "protected" else "real", 0x1000)
    each = machine.irqchip.line(IRQ).pulse if "irq" in kind else None
    in_memory = kind.startswith("mmio")
    start = HOLE if in_memory else PORT
    meter = Counter(range(start, start + 4), machine.stop, each=each)
    (machine.mmio if in_memory else machine.ports).attach(meter)
    return machine, meter


# ---- Linux ----


def boot(backend: Backend) -> Table:
    """What Linux asks of the VMM until its first program runs. What KVM does by itself is no exit to us."""
    title = f"exits of Linux up to its first program, {backend.name}"
    table = new_table(title, ("exit", "count", "a second", "service, µs, median"), busy=True)
    with tempfile.TemporaryDirectory() as folder:
        guest = make_guest(Path(folder), FIRST)
        console = bytearray()

        def sink(data: bytes) -> None:
            console.extend(data)
            if b"@init" in console:
                machine.stop()

        with Pc(MEMORY << 20, backend, sink=sink) as machine:
            machine.load_kernel(guest.kernel.read_bytes(), initrd=guest.initrd.read_bytes(), command_line=APPEND)
            machine.tracer = Tracer(None, TraceFilter(""), ports=machine.ports, mmio=machine.mmio)
            start = time.perf_counter()
            stop = machine.run(300)
            seconds = time.perf_counter() - start
            found = machine.tracer.statistics()
    if stop.reason != "asked":
        raise CannotMeasureError(f"Linux did not come to its first program: {stop}")
    for kind, device, row in found.ordered():
        rate = f"{row.count / seconds:.0f}"
        table.add_row(f"{kind} {device}", str(row.count), rate, f"{row.service.microseconds()['p50']:.1f}")
    table.add_row("all", str(found.count), f"{found.count / seconds:.0f}", "")
    return table
