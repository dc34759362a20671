"""The ioctls of the KVM API that are about interrupt chips and their timers, answered by an IrqChip.

    result = vm_ioctl(chip, request, argument)        # None: not one of ours
    result = vcpu_ioctl(chip, number, request, argument)

Results are the kernel's: ≥ 0, or -errno. `argument` is a pointer to the structure that the request is about.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls
from minivmm.kvm.binding import ffi
from minivmm.kvm.seam import CData
from minivmm.soft import irq_state as state
from minivmm.soft.irq_routing import MAX_ROUTES, MsiRoute, Pin, Route, build_routing
from minivmm.soft.irqchip import IrqChip
from minivmm.soft.lapic_state import SIZE, get_lapic, set_lapic


def vm_ioctl(chip: IrqChip, request: int, argument: CData) -> int | None:
    """An ioctl on the VM's handle: the result or -errno. None where it isn't about these chips.

    The IrqChip itself comes from vm.py: KVM_CREATE_IRQCHIP, or KVM_ENABLE_CAP of KVM_CAP_SPLIT_IRQCHIP.
    """
    if (found := _VM.get(request)) is None:
        return None
    answer, kind = found
    with chip.lock:
        return answer(chip, ffi.cast(f"struct {kind} *", argument))


def vcpu_ioctl(chip: IrqChip, number: int, request: int, argument: CData) -> int | None:
    """An ioctl on the handle of vCPU `number`: KVM_GET_LAPIC or KVM_SET_LAPIC. None for all others."""
    if request not in (ioctls.KVM_GET_LAPIC, ioctls.KVM_SET_LAPIC):
        return None
    page = ffi.buffer(ffi.cast("struct kvm_lapic_state *", argument), SIZE)
    with chip.lock:
        if request == ioctls.KVM_GET_LAPIC:
            chip.advance()
            page[:] = get_lapic(chip.lapics[number])
        else:
            set_lapic(chip.lapics[number], bytes(page))
    return 0


def _irq_line(chip: IrqChip, line: CData) -> int:
    chip.irq_line(line.irq, bool(line.level))
    return 0


def _irq_line_status(chip: IrqChip, line: CData) -> int:
    line.status = chip.irq_line(line.irq, bool(line.level))
    return 0


def _signal_msi(chip: IrqChip, msi: CData) -> int:
    if msi.flags & ~k.KVM_MSI_VALID_DEVID:
        return -errno.EINVAL
    return chip.signal_msi(msi.address_lo, msi.data)


def _set_gsi_routing(chip: IrqChip, table: CData) -> int:
    if table.flags or table.nr > MAX_ROUTES:
        return -errno.EINVAL
    try:
        entries = [(table.entries[i].gsi, _route(table.entries[i])) for i in range(table.nr)]
        chip.set_routing(build_routing(entries, split=chip.split))
    except ValueError:
        return -errno.EINVAL
    return 0


def _route(entry: CData) -> Route:
    if entry.flags:
        raise ValueError("a route has no flags here")
    if entry.type == k.KVM_IRQ_ROUTING_MSI:
        return MsiRoute(entry.u.msi.address_lo, entry.u.msi.data)
    if entry.type != k.KVM_IRQ_ROUTING_IRQCHIP:
        raise ValueError(f"there is no type {entry.type}")
    pin = entry.u.irqchip.pin
    match entry.u.irqchip.irqchip:
        case k.KVM_IRQCHIP_PIC_MASTER if pin < 8:
            return Pin("pic", pin)
        case k.KVM_IRQCHIP_PIC_SLAVE if pin < 8:
            return Pin("pic", 8 + pin)
        case k.KVM_IRQCHIP_IOAPIC:
            return Pin("ioapic", pin)
        case number:
            raise ValueError(f"chip {number} has no pin {pin}")


def _get_irqchip(chip: IrqChip, argument: CData) -> int:
    if chip.split:
        return -errno.ENXIO
    match argument.chip_id:
        case k.KVM_IRQCHIP_PIC_MASTER | k.KVM_IRQCHIP_PIC_SLAVE as number:
            state.get_pic(chip.pic, number, argument.chip.pic)
        case k.KVM_IRQCHIP_IOAPIC:
            state.get_ioapic(chip.ioapic, argument.chip.ioapic)
        case _:
            return -errno.EINVAL
    return 0


def _set_irqchip(chip: IrqChip, argument: CData) -> int:
    if chip.split:
        return -errno.ENXIO
    match argument.chip_id:
        case k.KVM_IRQCHIP_PIC_MASTER | k.KVM_IRQCHIP_PIC_SLAVE as number:
            state.set_pic(chip.pic, number, argument.chip.pic)
        case k.KVM_IRQCHIP_IOAPIC:
            state.set_ioapic(chip.ioapic, argument.chip.ioapic)
        case _:
            return -errno.EINVAL
    return 0


def _create_pit(chip: IrqChip, config: CData) -> int:
    if chip.pit is not None:
        return -errno.EEXIST
    if chip.split:
        return -errno.ENOENT  # it needs the pins of chips that aren't there
    if config.flags & ~k.KVM_PIT_SPEAKER_DUMMY:
        return -errno.EINVAL
    chip.create_pit(config.flags)
    return 0


def _get_pit(chip: IrqChip, argument: CData) -> int:
    if chip.pit is None:
        return -errno.ENXIO
    state.get_pit(chip.pit, argument)
    return 0


def _set_pit(chip: IrqChip, argument: CData) -> int:
    if chip.pit is None:
        return -errno.ENXIO
    state.set_pit(chip.pit, argument)
    return 0


def _reinject_control(chip: IrqChip, control: CData) -> int:
    if chip.pit is None:
        return -errno.ENXIO
    chip.pit.reinject = bool(control.pit_reinject)
    chip.pit.forget_owed()
    return 0


_VM: dict[int, tuple[Callable[[IrqChip, CData], int], str]] = {
    ioctls.KVM_IRQ_LINE: (_irq_line, "kvm_irq_level"),
    ioctls.KVM_IRQ_LINE_STATUS: (_irq_line_status, "kvm_irq_level"),
    ioctls.KVM_SIGNAL_MSI: (_signal_msi, "kvm_msi"),
    ioctls.KVM_SET_GSI_ROUTING: (_set_gsi_routing, "kvm_irq_routing"),
    ioctls.KVM_GET_IRQCHIP: (_get_irqchip, "kvm_irqchip"),
    ioctls.KVM_SET_IRQCHIP: (_set_irqchip, "kvm_irqchip"),
    ioctls.KVM_CREATE_PIT2: (_create_pit, "kvm_pit_config"),
    ioctls.KVM_GET_PIT2: (_get_pit, "kvm_pit_state2"),
    ioctls.KVM_SET_PIT2: (_set_pit, "kvm_pit_state2"),
    ioctls.KVM_REINJECT_CONTROL: (_reinject_control, "kvm_reinject_control"),
}
