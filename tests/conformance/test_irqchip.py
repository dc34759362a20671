"""The in-kernel interrupt controllers: two 8259, the IOAPIC, and every way to raise a line or send a message.

Source: KVM API, KVM_CREATE_IRQCHIP, KVM_IRQ_LINE, KVM_SIGNAL_MSI, KVM_SET_GSI_ROUTING, KVM_IRQFD, KVM_IOEVENTFD; Intel
8259A and 82093AA datasheets.
"""

from __future__ import annotations

import errno
import os

import pytest
from rig import HLT, LONG, PROTECTED, HangError, Load, Out, Store, Trapped, asm32, asm64
from rig.layout import CODE, HOLE, STACK

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls as io
from minivmm.kvm.binding import ffi
from minivmm.kvm.calls import struct
from minivmm.kvm.errors import KvmError

SPIN = asm64("sti; spin: jmp spin")
LAPIC = 0xF000  # where these guests map the local APIC's page
LEVEL, MASKED = 1 << 15, 1 << 16


@pytest.fixture
def chips(start):
    """chips(code) -> a guest with interrupt controllers: the 8259s at vectors 0x20 and 0x28 with all lines open."""

    def make(code=SPIN, mode=LONG, **options):
        guest = start(mode, code, irqchip=True, **options)
        for chip, base in ((k.KVM_IRQCHIP_PIC_MASTER, 0x20), (k.KVM_IRQCHIP_PIC_SLAVE, 0x28)):
            state = chip_of(guest, chip)
            state.chip.pic.irq_base, state.chip.pic.imr, state.chip.pic.init4 = base, 0, 1
            guest.ioctl(io.KVM_SET_IRQCHIP, state)
        guest.cpu.set_lapic_enabled()
        if mode == LONG:
            guest.set_page(LAPIC, 0xFEE00000 | 7)
        return guest

    return make


def chip_of(guest, chip):
    state = struct("kvm_irqchip", chip_id=chip)
    guest.ioctl(io.KVM_GET_IRQCHIP, state)
    return state


def line(guest, irq, level=1):
    guest.ioctl(io.KVM_IRQ_LINE, struct("kvm_irq_level", irq=irq, level=level))


def pulse(guest, irq):
    line(guest, irq, 1)
    line(guest, irq, 0)


def back(guest):
    """Leaves the handler without IRET and without telling any controller."""
    guest.cpu.finish()
    guest.cpu.jump(CODE, rflags=0x202, rsp=STACK)


def quiet(guest):
    with pytest.raises(HangError):
        guest.cpu.run(0.2)


def redirect(guest, pin, entry):
    state = chip_of(guest, k.KVM_IRQCHIP_IOAPIC)
    state.chip.ioapic.redirtbl[pin] = entry
    guest.ioctl(io.KVM_SET_IRQCHIP, state)


# ---- the two 8259 ----


def test_the_guest_sets_up_the_8259s(start):
    guest = start(PROTECTED, asm32("""
        mov al, 0x11; out 0x20, al; out 0xA0, al; mov al, 0x30; out 0x21, al; mov al, 0x38; out 0xA1, al
        mov al, 4; out 0x21, al; mov al, 2; out 0xA1, al; mov al, 1; out 0x21, al; out 0xA1, al
        mov al, 0xFD; out 0x21, al; in al, 0x21; mov dx, 0x123; out dx, al; sti; spin: jmp spin
    """), irqchip=True)  # fmt: skip
    assert guest.cpu.run().data == b"\xfd"  # none of its ports made an exit
    line(guest, 1)
    assert guest.trace() == [Trapped(0x31)]
    state = chip_of(guest, 0).chip.pic
    assert (state.irq_base, state.imr, state.isr) == (0x30, 0xFD, 2)


@pytest.mark.parametrize("irq", [0, 1, 7, 8, 12, 15])
def test_each_line_has_its_vector(chips, irq):
    guest = chips()
    line(guest, irq)
    assert guest.trace() == [Trapped(0x20 + irq)]


def test_a_masked_line_waits(chips):
    guest = chips(asm64("sti; mov ecx, 100; wait: loop wait; mov al, 0; out 0x21, al; spin: jmp spin"))
    state = chip_of(guest, 0)
    state.chip.pic.imr = 0xFF
    guest.ioctl(io.KVM_SET_IRQCHIP, state)
    line(guest, 3)
    assert guest.trace() == [Trapped(0x23)]
    assert guest.cpu.trap().offset == 12  # behind the OUT that opened the line


def test_an_interrupt_in_service_blocks_its_own_and_lower_lines_until_eoi(chips):
    guest = chips()
    pulse(guest, 3)
    assert guest.trace() == [Trapped(0x23)]
    back(guest)
    pulse(guest, 3)
    pulse(guest, 5)
    quiet(guest)
    guest.write(CODE, asm64("mov al, 0x20; out 0x20, al; sti; spin: jmp spin"))
    back(guest)
    assert guest.trace() == [Trapped(0x23)]


def test_a_higher_line_interrupts_a_handler(chips):
    guest = chips()
    pulse(guest, 3)
    assert guest.trace() == [Trapped(0x23)]
    back(guest)
    pulse(guest, 1)
    assert guest.trace() == [Trapped(0x21)]


def test_an_edge_counts_once(chips):
    guest = chips(asm64("mov al, 0x20; out 0x20, al; sti; spin: jmp spin"))
    line(guest, 3)
    assert guest.trace() == [Trapped(0x23)]
    back(guest)
    quiet(guest)


def test_a_level_counts_as_long_as_it_is_high(chips):
    guest = chips(asm64("mov al, 0x20; out 0x20, al; sti; spin: jmp spin"))
    state = chip_of(guest, 0)
    state.chip.pic.elcr = 1 << 3
    guest.ioctl(io.KVM_SET_IRQCHIP, state)
    line(guest, 3)
    for _ in range(2):
        assert guest.trace() == [Trapped(0x23)]
        back(guest)
    line(guest, 3, 0)
    quiet(guest)


def test_request_and_service_registers(chips):
    guest = chips(asm64("mov al, 0x0A; out 0x20, al; in al, 0x20; mov dx, 0x123; out dx, al"))
    pulse(guest, 3)
    pulse(guest, 6)
    assert guest.cpu.run().data == bytes([1 << 3 | 1 << 6])


def test_the_status_says_whether_an_edge_was_lost(chips):
    guest = chips(asm64("spin: jmp spin"))

    def raised():
        level = struct("kvm_irq_level", irq=3, level=1)
        guest.ioctl(io.KVM_IRQ_LINE_STATUS, level)
        line(guest, 3, 0)
        return level.status

    assert raised() > 0


def test_the_controllers_state_can_be_set(chips):
    guest = chips()
    state = chip_of(guest, 0)
    state.chip.pic.imr, state.chip.pic.irq_base = 0x55, 0x48
    guest.ioctl(io.KVM_SET_IRQCHIP, state)
    state = chip_of(guest, 0).chip.pic
    assert (state.imr, state.irq_base) == (0x55, 0x48)


def test_the_ports_of_the_controllers_exit_without_an_irqchip(start):
    guest = start(PROTECTED, asm32("mov al, 5; out 0x20, al; out 0xA1, al; hlt"))
    assert guest.trace() == [Out(0x20, 1, 5), Out(0xA1, 1, 5), HLT]


# ---- the IOAPIC ----


@pytest.mark.parametrize("pin", [5, 16, 23])
def test_an_ioapic_pin(chips, pin):
    guest = chips()
    mask_8259s(guest)
    redirect(guest, pin, 0x61)
    line(guest, pin)
    assert guest.trace() == [Trapped(0x61)]


def mask_8259s(guest):
    for chip in (0, 1):
        state = chip_of(guest, chip)
        state.chip.pic.imr = 0xFF
        guest.ioctl(io.KVM_SET_IRQCHIP, state)


def test_a_masked_pin_is_quiet(chips):
    guest = chips()
    redirect(guest, 20, 0x61 | MASKED)
    line(guest, 20)
    quiet(guest)


def test_a_level_pin_comes_again_after_eoi_until_it_falls(chips):
    guest = chips(asm64("mov dword ptr [0xF0B0], 0; sti; spin: jmp spin"))
    redirect(guest, 20, 0x61 | LEVEL)
    line(guest, 20)
    for _ in range(2):
        assert guest.trace() == [Trapped(0x61)]
        back(guest)
    line(guest, 20, 0)
    quiet(guest)


def test_the_guest_programs_the_ioapic(start):
    guest = start(PROTECTED, asm32("""
        mov dword ptr [0xFEC00000], 0x10 + 2 * 20; mov dword ptr [0xFEC00010], 0x62
        mov dword ptr [0xFEC00000], 0x11 + 2 * 20; mov dword ptr [0xFEC00010], 0
        mov dword ptr [0xFEC00000], 1; mov eax, [0xFEC00010]; mov dx, 0x123; out dx, eax; sti; spin: jmp spin
    """), irqchip=True)  # fmt: skip
    guest.cpu.set_lapic_enabled()
    version = int.from_bytes(guest.cpu.run().data, "little")
    assert version >> 16 & 0xFF == 23  # the highest entry
    line(guest, 20)
    assert guest.trace() == [Trapped(0x62)]


# ---- messages and routes ----


def msi(guest, data, address=0xFEE00000):
    return guest.ioctl(io.KVM_SIGNAL_MSI, struct("kvm_msi", address_lo=address, data=data))


def test_a_message(chips):
    guest = chips()
    assert msi(guest, 0x71) == 1
    assert guest.trace() == [Trapped(0x71)]


def test_a_message_to_a_local_apic_that_is_off(chips):
    guest = chips()
    guest.cpu.set_lapic_enabled(False)
    assert msi(guest, 0x71) == 0
    quiet(guest)


def test_a_message_may_be_an_nmi(chips):
    guest = chips(asm64("spin: jmp spin"))
    msi(guest, 0x400)
    assert guest.trace() == [Trapped(2)]


def test_messages_come_by_priority(chips):
    guest = chips()
    msi(guest, 0x51)
    msi(guest, 0x91)
    assert guest.trace() == [Trapped(0x91)]


def routes(guest, *entries):
    table = ffi.new("struct kvm_irq_routing *", {"nr": len(entries), "entries": list(entries)})
    guest.ioctl(io.KVM_SET_GSI_ROUTING, table)


def test_a_line_can_be_routed_to_a_message(chips):
    guest = chips()
    message = {"address_lo": 0xFEE00000, "address_hi": 0, "data": 0x73}
    routes(guest, {"gsi": 40, "type": k.KVM_IRQ_ROUTING_MSI, "u": {"msi": message}})
    line(guest, 40)
    assert guest.trace() == [Trapped(0x73)]


def test_a_line_can_be_routed_to_another_pin(chips):
    guest = chips()
    redirect(guest, 21, 0x64)
    pin = {"irqchip": k.KVM_IRQCHIP_IOAPIC, "pin": 21}
    routes(guest, {"gsi": 3, "type": k.KVM_IRQ_ROUTING_IRQCHIP, "u": {"irqchip": pin}})
    line(guest, 3)
    assert guest.trace() == [Trapped(0x64)]


# ---- eventfds ----


@pytest.fixture
def eventfd():
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


def needs(guest, capability):
    if not guest.has(capability):
        pytest.skip(f"KVM_CHECK_EXTENSION({capability}) says 0")


def test_an_eventfd_raises_a_line(chips, eventfd):
    guest = chips()
    needs(guest, k.KVM_CAP_IRQFD)
    guest.ioctl(io.KVM_IRQFD, struct("kvm_irqfd", fd=eventfd, gsi=5))
    os.eventfd_write(eventfd, 1)
    assert guest.trace() == [Trapped(0x25)]


@pytest.mark.parametrize("flags", [k.KVM_IOEVENTFD_FLAG_PIO, 0], ids=["port", "memory"])
def test_a_write_becomes_an_eventfd(start, eventfd, flags):
    guest = start(
        PROTECTED, asm32("mov al, 7; mov dx, 0x123; out dx, al; mov [HOLE], al; mov dx, 0x124; out dx, al; hlt")
    )
    needs(guest, k.KVM_CAP_IOEVENTFD)
    where = 0x123 if flags else HOLE
    guest.ioctl(io.KVM_IOEVENTFD, struct("kvm_ioeventfd", addr=where, len=1, fd=eventfd, flags=flags))
    other = Store(HOLE, 1, 7) if flags else Out(0x123, 1, 7)
    assert guest.trace() == [other, Out(0x124, 1, 7), HLT]
    assert os.eventfd_read(eventfd) == 1


def test_an_eventfd_may_want_a_value(start, eventfd):
    guest = start(PROTECTED, asm32("mov dx, 0x123; mov al, 6; out dx, al; mov al, 7; out dx, al; hlt"))
    needs(guest, k.KVM_CAP_IOEVENTFD)
    flags = k.KVM_IOEVENTFD_FLAG_PIO | k.KVM_IOEVENTFD_FLAG_DATAMATCH
    event = struct("kvm_ioeventfd", addr=0x123, len=1, fd=eventfd, flags=flags, datamatch=7)
    guest.ioctl(io.KVM_IOEVENTFD, event)
    assert guest.trace() == [Out(0x123, 1, 6), HLT]
    event.flags |= k.KVM_IOEVENTFD_FLAG_DEASSIGN
    guest.ioctl(io.KVM_IOEVENTFD, event)
    guest.cpu.jump()
    assert guest.trace() == [Out(0x123, 1, 6), Out(0x123, 1, 7), HLT]


def test_an_eventfd_for_writes_of_any_size_outlives_its_number(start):
    guest = start(PROTECTED, asm32("mov dx, 0x123; out dx, al; out dx, eax; inc edx; out dx, al; hlt"))
    needs(guest, k.KVM_CAP_IOEVENTFD_NO_LENGTH)
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    other = os.dup(fd)
    guest.ioctl(io.KVM_IOEVENTFD, struct("kvm_ioeventfd", addr=0x123, fd=fd, flags=k.KVM_IOEVENTFD_FLAG_PIO))
    os.close(fd)
    assert guest.trace() == [Out(0x124, 1, 0), HLT]
    assert os.eventfd_read(other) == 2
    os.close(other)


def test_what_an_eventfd_may_not_ask_for(vm, eventfd):
    needs(vm, k.KVM_CAP_IOEVENTFD)
    pio, match = k.KVM_IOEVENTFD_FLAG_PIO, k.KVM_IOEVENTFD_FLAG_DATAMATCH

    def ask(fd=eventfd, **fields):
        return vm.ioctl(io.KVM_IOEVENTFD, struct("kvm_ioeventfd", **{"addr": 0x123, "fd": fd, **fields}))

    ask(len=1, flags=pio | match, datamatch=7)
    ask(len=1, flags=pio | match, datamatch=8)
    ask(len=1)  # in memory
    assert refused(ask, len=1, flags=pio) == errno.EEXIST  # value 7 would ring both
    assert refused(ask, flags=pio) == errno.EEXIST
    assert refused(ask, len=3) == errno.EINVAL
    assert refused(ask, flags=match) == errno.EINVAL  # a value of no size
    assert refused(ask, len=1, flags=1 << 7) == errno.EINVAL
    assert refused(ask, len=2, fd=9999) == errno.EBADF
    assert refused(ask, len=4, flags=k.KVM_IOEVENTFD_FLAG_DEASSIGN) == errno.ENOENT
    ask(len=1, flags=pio | match | k.KVM_IOEVENTFD_FLAG_DEASSIGN, datamatch=7)
    ask(len=1, flags=pio | match, datamatch=7)


# ---- a split irqchip, and what is refused ----


def test_a_split_irqchip_leaves_the_8259s_and_the_ioapic_to_userspace(backend):
    from rig.guest import Guest

    class Split(Guest):
        """A guest whose VM has the local APIC only."""

        def ioctl(self, request, argument=0):
            if request == io.KVM_CREATE_IRQCHIP:
                request, argument = io.KVM_ENABLE_CAP, struct("kvm_enable_cap", cap=k.KVM_CAP_SPLIT_IRQCHIP, args=[24])
            return super().ioctl(request, argument)

    code = asm32("mov al, 5; out 0x20, al; mov eax, [0xFEC00000]; mov eax, [0xFEE00030]; sti; spin: jmp spin")
    guest = Split(backend, PROTECTED, code, irqchip=True)
    try:
        guest.cpu.set_lapic_enabled()
        msi(guest, 0x71)
        assert guest.trace([3]) == [Out(0x20, 1, 5), Load(0xFEC00000, 4), Trapped(0x71)]
    finally:
        guest.close()


def refused(call, *arguments, **fields):
    with pytest.raises(KvmError) as refusal:
        call(*arguments, **fields)
    return refusal.value.errno


def test_a_second_irqchip(vm):
    vm.ioctl(io.KVM_CREATE_IRQCHIP)
    assert refused(vm.ioctl, io.KVM_CREATE_IRQCHIP) == errno.EEXIST


def test_an_irqchip_comes_before_the_vcpus(vm):
    vm.add_cpu()
    assert refused(vm.ioctl, io.KVM_CREATE_IRQCHIP) == errno.EINVAL


def test_without_an_irqchip(start):
    guest = start(LONG, asm64("hlt"))
    assert refused(line, guest, 3) == errno.ENXIO
    assert refused(chip_of, guest, 0) == errno.ENXIO
    assert refused(guest.cpu.lapic, 0x20) == errno.EINVAL


def test_a_pit_needs_an_irqchip(vm):
    assert refused(vm.ioctl, io.KVM_CREATE_PIT2, struct("kvm_pit_config")) in (errno.ENOENT, errno.ENXIO)


def test_an_unknown_chip(vm):
    vm.ioctl(io.KVM_CREATE_IRQCHIP)
    assert refused(chip_of, vm, 9) == errno.EINVAL
