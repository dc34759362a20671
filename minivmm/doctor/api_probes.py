"""The probes of the API: what a VMM asks of KVM beside running code."""

from __future__ import annotations

from minivmm import guests
from minivmm.boot.layout import FLAT_LOAD
from minivmm.doctor.bench import RAM, bench, next_exit, require
from minivmm.doctor.probe import Probe, expect
from minivmm.exits import Debug, Exit, Interrupted, MmioWrite, PortOut, ReadMsr
from minivmm.kvm import constants as k
from minivmm.kvm import ioctls
from minivmm.kvm.calls import struct
from minivmm.kvm.seam import Backend
from minivmm.vm import Vm

PORT = 0xF4
OUT_AL = bytes.fromhex("e6 f4")  # out 0xf4, al
MSR = 0xDEAD  # no processor has it
STEPS = 8  # the NOPs of guests/probes/single-step
SLOTS = 8

# mov byte ptr [0x3000], 1 · mov byte ptr [0x5000], 1 · out 0xf4, al, twice
TOUCH_TWO_PAGES = 2 * (bytes.fromhex("c6 06 00 30 01  c6 06 00 50 01") + OUT_AL)
# mov ax, 0x1000 · mov ds, ax · mov byte ptr [0], 1 · mov al, [0] · out 0xf4, al     (0x1000:0 is 0x10000)
WRITE_ROM = bytes.fromhex("b8 00 10  8e d8  c6 06 00 00 01  a0 00 00") + OUT_AL
# mov ecx, 0xdead · rdmsr · out 0xf4, al
READ_MSR = bytes.fromhex("66 b9 ad de 00 00  0f 32") + OUT_AL
# xor eax, eax · cpuid · mov eax, ebx · out 0xf4, eax
READ_CPUID = bytes.fromhex("66 31 c0  0f a2  66 89 d8  66 e7 f4")
# mov ax, 0x1234 · out 0xf4, al
LOAD_AX = bytes.fromhex("b8 34 12") + OUT_AL
# mov word ptr [0x80], 0x1030 · mov word ptr [0x82], 0: vector 0x20 is at 0000:1030; then the 8259 gets its four
# initialization words (0x11, vector base 0x20, 4, 1) and a mask that leaves line 0 open; out 0xf4, al · sti · hlt
INTERRUPTED = bytes.fromhex(
    "c7 06 80 00 30 10  c7 06 82 00 00 00b0 11 e6 20  b0 20 e6 21  b0 04 e6 21  b0 01 e6 21  b0 fe e6 21e6 f4  fb f4"
).ljust(0x30, b"\xf4") + bytes.fromhex("b0 10 e6 f4")  # 0x1030: mov al, 0x10 · out 0xf4, al


def written(exit: Exit) -> int:
    """The value in a write to the debug-exit port. Raises FailedError for any other exit."""
    expect(isinstance(exit, PortOut) and exit.port == PORT, f"the guest stopped with “{exit}”")
    assert isinstance(exit, PortOut)
    return int.from_bytes(exit.data, "little")


def dirty_log(backend: Backend) -> str:
    with bench(backend, TOUCH_TWO_PAGES, log_dirty=True) as (vm, vcpu):
        slot = vm.memory.slots[0]
        written(next_exit(vcpu))
        # KVM maps a page as writable at its first use, and calls it dirty, even if it was only read or executed:
        # the log is exact from its first reading on (arch/x86/kvm/mmu/spte.c, make_spte).
        vm.memory.dirty_pages(slot)
        written(next_exit(vcpu))
        pages = vm.memory.dirty_pages(slot)
        expect(pages == [0x3000, 0x5000], f"the log names {[hex(page) for page in pages]}, not 0x3000 and 0x5000")
        expect(vm.memory.dirty_pages(slot) == [], "reading the log does not clear it")
    return ""


def read_only(backend: Backend) -> str:
    with bench(backend, WRITE_ROM) as (vm, vcpu):
        require(vm, k.KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM")
        rom = vm.memory.add(RAM, 0x1000, name="rom", read_only=True)
        rom.data[0] = 0x5A
        exit = next_exit(vcpu)
        expect(isinstance(exit, MmioWrite) and exit.address == RAM, f"a write to ROM gave “{exit}”, not an MMIO exit")
        expect(written(next_exit(vcpu)) == 0x5A, "the guest changed the ROM")
    return ""


def immediate_exit(backend: Backend) -> str:
    with bench(backend, OUT_AL) as (vm, vcpu):
        require(vm, k.KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT")
        vcpu.run_page.immediate_exit = 1
        exit = vcpu.run()
        expect(isinstance(exit, Interrupted), f"KVM_RUN went on to “{exit}”")
        written(next_exit(vcpu))
    return ""


def sync_registers(backend: Backend) -> str:
    with bench(backend, LOAD_AX) as (vm, vcpu):
        kinds = require(vm, k.KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS")
        wanted = k.KVM_SYNC_X86_REGS | k.KVM_SYNC_X86_SREGS
        expect(kinds & wanted == wanted, f"only the kinds {kinds:#x} can be shared")
        vcpu.sync_registers()
        written(next_exit(vcpu))
        found = vcpu.run_page.s.regs.regs.rax
        expect(found == 0x1234, f"the shared page shows RAX = {found:#x}, not 0x1234")
    return ""


def single_step(backend: Backend) -> str:
    code = guests.load("probes/single-step").image
    with bench(backend, code) as (vm, vcpu):
        require(vm, k.KVM_CAP_SET_GUEST_DEBUG, "KVM_CAP_SET_GUEST_DEBUG")
        debug = struct("kvm_guest_debug", control=k.KVM_GUESTDBG_ENABLE | k.KVM_GUESTDBG_SINGLESTEP)
        code_of_error = -backend.ioctl(vcpu.fd, ioctls.KVM_SET_GUEST_DEBUG, debug)
        expect(code_of_error <= 0, f"KVM_SET_GUEST_DEBUG is refused with errno {code_of_error}")
        for step in range(1, STEPS + 1):
            exit = next_exit(vcpu)
            expect(isinstance(exit, Debug), f"step {step} gave “{exit}”, not a debug exit")
            at = vcpu.get_regs().rip
            expect(at == FLAT_LOAD + step, f"step {step} ended at {at:#x}, not at {FLAT_LOAD + step:#x}")
    return ""


def irqchip(backend: Backend) -> str:
    def create(vm: Vm) -> None:
        require(vm, k.KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP")
        vm.ioctl(ioctls.KVM_CREATE_IRQCHIP)

    with bench(backend, INTERRUPTED, prepare=create) as (vm, vcpu):
        # An 8259 forgets its edges as it is initialized, so the guest says when it is done with that.
        written(next_exit(vcpu))
        vm.ioctl(ioctls.KVM_IRQ_LINE, struct("kvm_irq_level", irq=0, level=1))
        expect(written(next_exit(vcpu)) == 0x10, "the handler of line 0 was not called")
    return ""


def cpuid(backend: Backend) -> str:
    with bench(backend, READ_CPUID) as (vm, vcpu):
        entries = vm.supported_cpuid()
        vcpu.set_cpuid(entries)
        leaf = next((entry for entry in entries if entry["function"] == 0), None)
        expect(leaf is not None, "KVM_GET_SUPPORTED_CPUID has no leaf 0")
        assert leaf is not None
        found = written(next_exit(vcpu))
        expect(found == leaf["ebx"], f"the guest reads EBX = {found:#x}, and was given {leaf['ebx']:#x}")
    vendor = b"".join(leaf[name].to_bytes(4, "little") for name in ("ebx", "edx", "ecx"))
    return f"{len(entries)} entries, vendor {vendor.decode('ascii', 'replace')}"


def msr_exits(backend: Backend) -> str:
    with bench(backend, READ_MSR) as (vm, vcpu):
        require(vm, k.KVM_CAP_X86_USER_SPACE_MSR, "KVM_CAP_X86_USER_SPACE_MSR")
        vm.exit_on_unknown_msrs()
        exit = next_exit(vcpu)
        expect(isinstance(exit, ReadMsr) and exit.index == MSR, f"RDMSR {MSR:#x} gave “{exit}”")
        assert isinstance(exit, ReadMsr)
        exit.answer(0x5A)
        expect(written(next_exit(vcpu)) == 0x5A, "the guest did not get the value")
    return ""


def vcpus(backend: Backend) -> str:
    with Vm(backend) as vm:
        recommended, most = vm.has_cap(k.KVM_CAP_NR_VCPUS), vm.has_cap(k.KVM_CAP_MAX_VCPUS)
        vm.create_vcpu()
        vm.create_vcpu()
    return f"{recommended} recommended, {most} at most"


def memory_slots(backend: Backend) -> str:
    with Vm(backend) as vm:
        most = vm.has_cap(k.KVM_CAP_NR_MEMSLOTS)
        for number in range(SLOTS):
            vm.memory.add(number * 0x10000, 0x1000)
    return f"{most} at most"


API_PROBES = (
    Probe("vcpus", "Two vCPUs", vcpus, "Only guests with one vCPU run here."),
    Probe("memory-slots", "Memory slots", memory_slots, "Give the guest its memory in one slot."),
    Probe("read-only", "Read-only slots", read_only, "Put the ROM into a hole and serve it by MMIO exits."),
    Probe("dirty-log", "Dirty log", dirty_log, "Live migration can't track writes here: stop the guest, then copy."),
    Probe("immediate-exit", "immediate_exit", immediate_exit, "Stopping a guest can race with KVM_RUN here: retry."),
    Probe("sync-registers", "SYNC_REGS", sync_registers, "Read registers by KVM_GET_REGS; it costs one ioctl more."),
    Probe("single-step", "Single step", single_step, "Debugging by single steps doesn't work here: print instead."),
    Probe("cpuid", "CPUID", cpuid, "Guests that look for features by CPUID may not start here."),
    Probe("msr-exits", "MSR exits", msr_exits, "Unknown MSRs raise #GP in the guest: answer with a handler there."),
    Probe("irqchip", "In-kernel irqchip", irqchip, "Use an interrupt controller in userspace and KVM_INTERRUPT."),
)
