"""The state of the chips as the KVM API's structures have it, in and out.

Source: KVM API 4.26 KVM_GET_IRQCHIP, 4.27 KVM_SET_IRQCHIP, 4.57 KVM_GET_LAPIC, 4.73 KVM_GET_PIT2, and the structures
printed there.
"""

from __future__ import annotations

from minivmm.devices.ioapic import BASE, IoApic
from minivmm.devices.pic import LEVEL_ALLOWED, Pic
from minivmm.devices.pit import SPEAKER, Pit, to_ns, to_ticks
from minivmm.devices.pit_channel import BOTH, Channel
from minivmm.devices.pit_latch import Port
from minivmm.kvm.seam import CData

# The names that the two sides have for one thing: ours, KVM's.
PIC_FIELDS = (
    ("lines", "last_irr"),
    ("irr", "irr"),
    ("imr", "imr"),
    ("isr", "isr"),
    ("top", "priority_add"),
    ("base", "irq_base"),
    ("read_isr", "read_reg_select"),
    ("poll", "poll"),
    ("special_mask", "special_mask"),
    ("init", "init_state"),
    ("auto_eoi", "auto_eoi"),
    ("rotate_on_auto_eoi", "rotate_on_auto_eoi"),
    ("special_fully_nested", "special_fully_nested_mode"),
    ("has_icw4", "init4"),
    ("elcr", "elcr"),
)
WORD_LOW, WORD_HIGH = 3, 4  # read_state, write_state: which half of a count is next
PIT_SPEAKER_ON = 2  # kvm_pit_state2.flags


def get_pic(pic: Pic, number: int, state: CData) -> None:
    """Fills a `struct kvm_pic_state`."""
    chip = pic.chips[number]
    for ours, theirs in PIC_FIELDS:
        setattr(state, theirs, int(getattr(chip, ours)))
    state.elcr_mask = LEVEL_ALLOWED[number]


def set_pic(pic: Pic, number: int, state: CData) -> None:
    """Takes one over. Numbers that a chip can't hold are cut to what it can."""
    chip = pic.chips[number]
    for ours, theirs in PIC_FIELDS:
        value = getattr(state, theirs)
        setattr(chip, ours, bool(value) if isinstance(getattr(chip, ours), bool) else value)
    chip.top &= 7
    chip.init &= 3
    pic.update()


def get_ioapic(ioapic: IoApic, state: CData) -> None:
    """Fills a `struct kvm_ioapic_state`. Its `irr` has the pins that are high, without the edges already sent."""
    state.base_address = ioapic.claim.start
    state.ioregsel = ioapic.index
    state.id = ioapic.identity
    state.irr = ioapic.lines & ~ioapic.sent
    state.redirtbl = ioapic.table


def set_ioapic(ioapic: IoApic, state: CData) -> None:
    """Takes one over, and sends what its `irr` asks for."""
    base = state.base_address or BASE
    ioapic.claim = range(base, base + 0x100)
    ioapic.index = state.ioregsel & 0xFF
    ioapic.identity = state.id & 0xF
    ioapic.table = list(state.redirtbl)
    ioapic.lines = ioapic.sent = 0
    for pin in range(len(ioapic.table)):
        if state.irr >> pin & 1:
            ioapic.set_line(pin, True)


def get_pit(pit: Pit, state: CData) -> None:
    """Fills a `struct kvm_pit_state2`. `count_load_time` is in ns of the clock that the PIT has."""
    for port, kept in zip(pit.ports, state.channels, strict=True):
        channel = port.channel
        kept.count = channel.written or 0x1_0000
        kept.latched_count, kept.count_latched = port.count, port.count_bytes
        kept.status_latched, kept.status = port.status is not None, port.status or 0
        kept.read_state = _next_half(channel.access, port.read_high)
        kept.write_state = _next_half(channel.access, port.low is not None)
        kept.write_latch = port.low or 0
        kept.rw_mode, kept.mode, kept.bcd, kept.gate = channel.access, channel.mode, channel.bcd, channel.gate
        kept.count_load_time = to_ns(max(channel.start - 1, 0)) if channel.start is not None else 0
    state.flags = PIT_SPEAKER_ON if pit.port61 & SPEAKER else 0


def set_pit(pit: Pit, state: CData) -> None:
    """Takes one over. Counter 0 starts its count anew, as KVM has it; the others go on."""
    tick = pit.tick()
    channels: list[Channel] = []
    for kept in state.channels:
        channel = Channel(gate=bool(kept.gate))
        channel.program(kept.mode & 7, bool(kept.bcd), kept.rw_mode & 3 or BOTH)
        channel.write(kept.count & 0xFFFF, to_ticks(kept.count_load_time) if channels else tick)
        channels.append(channel)
    pit.channels = channels[0], channels[1], channels[2]
    pit.ports = tuple(Port(channel) for channel in pit.channels)
    for port, kept in zip(pit.ports, state.channels, strict=True):
        port.count, port.count_bytes = kept.latched_count, kept.count_latched & 3
        port.status = kept.status if kept.status_latched else None
        port.read_high = kept.read_state == WORD_HIGH
        port.low = kept.write_latch if kept.write_state == WORD_HIGH else None
    pit.port61 = SPEAKER * bool(state.flags & PIT_SPEAKER_ON) | pit.channels[2].gate
    pit.replan(tick)


def _next_half(access: int, high: bool) -> int:
    return access if access != BOTH else WORD_HIGH if high else WORD_LOW
