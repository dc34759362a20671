"""GSI routing: which pins of which chips an interrupt line drives, or which message it sends.

Source: KVM API 4.52 KVM_SET_GSI_ROUTING.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_ROUTES = 4096
PIC_PINS, IOAPIC_PINS = 16, 24


@dataclass(frozen=True)
class Pin:
    """A pin: of the 8259A pair ("pic", 0–15) or of the IOAPIC ("ioapic", 0–23)."""

    chip: str
    number: int


@dataclass(frozen=True)
class MsiRoute:
    """A message that is sent when the line is raised."""

    address: int
    data: int


Route = Pin | MsiRoute
Routing = dict[int, tuple[Route, ...]]  # by GSI


def default_routing() -> Routing:
    """GSI n is pin n of the IOAPIC, and of the 8259A pair where that has one. So the timer (GSI 0) is IOAPIC pin 0,
    and not 2 as on most boards."""
    return {
        gsi: (Pin("pic", gsi), Pin("ioapic", gsi)) if gsi < PIC_PINS else (Pin("ioapic", gsi),)
        for gsi in range(IOAPIC_PINS)
    }


def build_routing(entries: list[tuple[int, Route]], *, split: bool) -> Routing:
    """The routing that a list of (GSI, route) describes. Raises ValueError for one that KVM refuses."""
    if len(entries) > MAX_ROUTES:
        raise ValueError(f"{len(entries)} routes, and {MAX_ROUTES} is the limit")
    routing: Routing = {}
    for gsi, route in entries:
        if gsi >= MAX_ROUTES:
            raise ValueError(f"GSI {gsi} is beyond {MAX_ROUTES - 1}")
        others = routing.get(gsi, ())
        if isinstance(route, Pin):
            if split:
                raise ValueError(f"GSI {gsi}: a split irqchip has no pins, only messages")
            if route.number >= (PIC_PINS if route.chip == "pic" else IOAPIC_PINS):
                raise ValueError(f"GSI {gsi}: the {route.chip} has no pin {route.number}")
        # "One GSI drives each chip once, and a message alone" is how KVM checks it.
        if any(isinstance(other, MsiRoute) or isinstance(route, MsiRoute) for other in others):
            raise ValueError(f"GSI {gsi}: a message can't share its GSI")
        if any(_chip(other) == _chip(route) for other in others):
            raise ValueError(f"GSI {gsi}: routed to one chip twice")
        routing[gsi] = (*others, route)
    return routing


def _chip(route: Route) -> object:
    # Master and slave count as two chips.
    if isinstance(route, Pin):
        return route.chip, route.number >> 3 if route.chip == "pic" else 0
    return None
