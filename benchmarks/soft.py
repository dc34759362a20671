"""The soft backend: its speed beside the bare engine, port exits a second, and what a new VM costs.

The bare engine is Unicorn alone (UC_MODE_32, no hooks, count=0), which runs the same 32-bit loop freely until a timer
thread stops it: such a stop may lose an instruction, which does not matter here. Soft runs it in protected mode by
KVM_RUN, and is stopped by the same timer with a kick. They take turns, and each ratio is of neighbours in time.
Seconds are those of the processor that the measuring thread had, so that a busy machine disturbs less.
"""

from __future__ import annotations

import ctypes
import mmap
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.table import Table
from unicorn import x86_const as x86

from benchmarks import memory
from benchmarks.tables import new_table
from minivmm.kvm import ioctls as io
from minivmm.kvm.calls import address_of, struct
from minivmm.machine import Machine
from minivmm.soft import library
from minivmm.soft.backend import SoftBackend

ROUNDS = 9
SECONDS = 0.15  # one round of a loop
EXITS = 20_000
MACHINES = 50
CODE = 0x1000
UC_MODE_32 = 1 << 2

LOOPS = {  # code, instructions in one turn; ECX counts the turns
    "arithmetic": (bytes.fromhex("01c8 31c3 41 ebf9"), 4),  # add eax, ecx; xor ebx, eax; inc ecx; jmp
    "the shortest": (bytes.fromhex("41 ebfd"), 2),  # inc ecx; jmp
    "memory": (bytes.fromhex("ff0500500000 41 ebf7"), 3),  # inc dword [0x5000]; inc ecx; jmp
}
OUT = bytes.fromhex("66ba1005 ee ebfd")  # mov dx, 0x510; out dx, al; jmp


def bare_engine(code: bytes) -> Callable[[], float]:
    """A function that runs `code` for a round in Unicorn alone, and returns the turns a second."""
    unicorn, uc, ram = library.unicorn(), ctypes.c_void_p(), mmap.mmap(-1, 1 << 20)
    ram[CODE : CODE + len(code)] = code
    unicorn.uc_open(library.ARCH_X86, UC_MODE_32, ctypes.byref(uc))
    unicorn.uc_mem_map_ptr(uc, ctypes.c_uint64(0), ctypes.c_size_t(len(ram)), 7, ctypes.c_void_p(address_of(ram)))
    ecx, start, zero = ctypes.c_uint64(), ctypes.c_uint64(CODE), ctypes.c_uint64(0)

    def run() -> float:
        ecx.value = 0
        ram[0x5000:0x5004] = bytes(4)
        unicorn.uc_reg_write(uc, x86.UC_X86_REG_ECX, ctypes.byref(ecx))
        timer = threading.Timer(SECONDS, lambda: unicorn.uc_emu_stop(uc))
        timer.start()
        begun = time.thread_time()
        unicorn.uc_emu_start(uc, start, zero, zero, ctypes.c_size_t(0))
        taken = time.thread_time() - begun
        unicorn.uc_reg_read(uc, x86.UC_X86_REG_ECX, ctypes.byref(ecx))
        return (ecx.value & 0xFFFFFFFF) / taken

    return run


@contextmanager
def soft_machine(code: bytes) -> Iterator[Machine]:
    with Machine(backend=SoftBackend()) as machine:
        machine.load(CODE, code)
        machine.enter("protected", CODE)
        yield machine


def soft(machine: Machine) -> Callable[[], float]:
    """The same by KVM_RUN."""
    fd, page, backend = int(machine.vcpu.fd), machine.vcpu.run_page.c, machine.vm.backend

    def run() -> float:
        before = machine.vcpu.get_regs().rcx
        thread = threading.get_native_id()

        def stop() -> None:
            page.immediate_exit = 1
            backend.kick(thread)

        timer = threading.Timer(SECONDS, stop)
        timer.start()
        begun = time.thread_time()
        backend.run(fd, page)
        taken = time.thread_time() - begun
        page.immediate_exit = 0
        return (machine.vcpu.get_regs().rcx - before & 0xFFFFFFFF) / taken

    return run


def loops() -> Table:
    table = new_table(
        f"instructions a second ({ROUNDS} rounds, in turns)",
        ("loop", "Unicorn alone, M/s, best", "soft, M/s, best", "ratio, median"),
    )
    for name, (code, insns) in LOOPS.items():
        with soft_machine(code) as machine:
            bare, ours = bare_engine(code), soft(machine)
            pairs = [(bare(), ours()) for _ in range(ROUNDS + 1)][1:]  # the first round translates
        best = [max(side) * insns / 1e6 for side in zip(*pairs, strict=True)]
        ratio = statistics.median(ours / bare for bare, ours in pairs)
        table.add_row(name, f"{best[0]:.0f}", f"{best[1]:.0f}", f"{ratio:.2f}")
    return table


def exits() -> Table:
    table = new_table(f"port exits ({ROUNDS} rounds of {EXITS}, in turns)", ("loop", "exits a second, median", "best"))

    def by_backend(machine: Machine) -> None:
        run, fd, page = machine.vm.backend.run, int(machine.vcpu.fd), machine.vcpu.run_page.c
        for _ in range(EXITS):
            run(fd, page)

    def by_vcpu(machine: Machine) -> None:
        run = machine.vcpu.run
        for _ in range(EXITS):
            run()

    ways = {"backend.run": by_backend, "Vcpu.run": by_vcpu}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    with soft_machine(OUT) as machine:
        for _ in range(ROUNDS):
            for name, way in ways.items():
                begun = time.thread_time()
                way(machine)
                rates[name].append(EXITS / (time.thread_time() - begun))
    for name, rate in rates.items():
        table.add_row(name, f"{statistics.median(rate):,.0f}", f"{max(rate):,.0f}")
    return table


def start_up() -> Table:
    """One VM after another, from KVM_CREATE_VM to HLT at the seam, and where its time goes."""
    table = new_table(f"VM create to first exit ({MACHINES} VMs)", ("part", "ms, median", "ms, least"))
    program = "from benchmarks.soft import one_start; print(int(one_start()['all of it'] * 1e6))"
    first = [memory.peak(program)[0] / 1e3 for _ in range(5)]
    table.add_row("the first of a process, self-check and all", f"{statistics.median(first):.2f}", f"{min(first):.2f}")
    parts: dict[str, list[float]] = {}
    for _ in range(MACHINES):
        for name, seconds in one_start().items():
            parts.setdefault(name, []).append(seconds * 1e3)
    for name, taken in parts.items():
        table.add_row(name, f"{statistics.median(taken):.2f}", f"{min(taken):.2f}")
    return table


def one_start() -> dict[str, float]:
    """Seconds of a VM from nothing to HLT: all of it, and its parts. Closing is not counted."""
    backend, marks = SoftBackend(), [time.thread_time()]

    def mark() -> None:
        marks.append(time.thread_time())

    ram = mmap.mmap(-1, 1 << 20)
    ram[CODE] = 0xF4
    system = backend.open()
    vm = backend.ioctl(system, io.KVM_CREATE_VM)
    region = struct("kvm_userspace_memory_region", memory_size=len(ram), userspace_addr=address_of(ram))
    backend.ioctl(vm, io.KVM_SET_USER_MEMORY_REGION, region)
    mark()
    vcpu = backend.ioctl(vm, io.KVM_CREATE_VCPU, 0)
    mark()
    sregs = struct("kvm_sregs")
    backend.ioctl(vcpu, io.KVM_GET_SREGS, sregs)
    sregs.cs.selector = sregs.cs.base = 0
    backend.ioctl(vcpu, io.KVM_SET_SREGS, sregs)
    backend.ioctl(vcpu, io.KVM_SET_REGS, struct("kvm_regs", rip=CODE, rflags=2))
    page = backend.map_run(vcpu, 3 * mmap.PAGESIZE)
    mark()
    assert backend.run(vcpu, page) == 0
    mark()
    for handle in (vcpu, vm, system):
        backend.close(handle)
    names = ("the VM and its memory", "its vCPU", "registers", "KVM_RUN to HLT")
    spans = {name: end - begun for name, begun, end in zip(names, marks, marks[1:], strict=False)}
    return {"all of it": marks[-1] - marks[0], **spans}


def footprint() -> Table:
    """As benchmarks/memory.py measures it."""
    table = new_table(f"memory, guest of {memory.GUEST_MIB} MiB that touches its pages", ("what", "MiB, median"))
    load = "from minivmm.soft.backend import SoftBackend\n"
    program = load + memory.PROGRAM.replace(" << 20)\n", " << 20, SoftBackend())\n", 1)
    runs = [memory.peak(program) for _ in range(max(1, ROUNDS // 3))]
    table.add_row("whole process", f"{statistics.median(rss for rss, _ in runs) / 1024:.1f}")
    table.add_row("over guest memory", f"{statistics.median(rss - guest for rss, guest in runs) / 1024:.1f}")
    return table


def measure() -> Table:
    """All of them, one below the other."""
    all_tables = Table.grid(padding=(0, 0, 1, 0))
    for table in (loops(), exits(), start_up(), footprint()):
        all_tables.add_row(table)
    return all_tables
