"""Exits counted by kind and device: how many, how long their service took, how long the guest ran before each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from minivmm.trace.histogram import Histogram

SERVICE_COLUMNS = ("p50", "p90", "p99", "max")
GUEST_COLUMNS = ("p50", "max")


@dataclass(slots=True)
class Row:
    """One kind of exit of one device. Durations in ns: `service` from KVM_RUN's return to the next KVM_RUN, `guest`
    inside the KVM_RUN that ended with the exit."""

    count: int = 0
    service: Histogram = field(default_factory=Histogram)
    guest: Histogram = field(default_factory=Histogram)


class Statistics:
    """The rows, by (kind, device). One thread adds; any thread may read, and sees counts of about this moment."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}

    def add(self, kind: str, device: str, guest: int, service: int | None) -> None:
        """Counts one exit. `service` is None where the run ended with it."""
        row = self.rows.get((kind, device)) or self.rows.setdefault((kind, device), Row())
        row.count += 1
        row.guest.add(guest)
        if service is not None:
            row.service.add(service)

    @classmethod
    def merged(cls, parts: Iterable[Statistics]) -> Self:
        """The sum of `parts`, which stay as they are."""
        whole = cls()
        for part in parts:
            for key, row in part.rows.copy().items():
                sum_ = whole.rows.setdefault(key, Row())
                sum_.count += row.count
                sum_.service.merge(row.service)
                sum_.guest.merge(row.guest)
        return whole

    @property
    def count(self) -> int:
        return sum(row.count for row in self.rows.values())

    def ordered(self) -> list[tuple[str, str, Row]]:
        """The rows, those with most exits first."""
        keys = sorted(self.rows, key=lambda key: (-self.rows[key].count, key))
        return [(*key, self.rows[key]) for key in keys]

    def as_json(self) -> dict[str, Any]:
        """The summary that ends a trace. Times in µs, whole durations in seconds."""
        return {
            "exits": self.count,
            "guest_seconds": sum(row.guest.total for row in self.rows.values()) / 1e9,
            "service_seconds": sum(row.service.total for row in self.rows.values()) / 1e9,
            "rows": [
                {
                    "kind": kind,
                    "device": device,
                    "count": row.count,
                    "service_us": row.service.microseconds(),
                    "guest_us": row.guest.microseconds(),
                }
                for kind, device, row in self.ordered()
            ],
        }

    def text(self) -> str:
        """The same as a table for a person."""
        if not self.rows:
            return "No exits yet."
        name = max(len("device"), *(len(device) for _, device in self.rows))
        heads = "".join(f"{column:>9}" for column in (*SERVICE_COLUMNS, *GUEST_COLUMNS))
        lines = [
            f"{'':<9} {'':<{name}} {'':>9}{'service, µs':>17}{'guest before, µs':>36}",
            f"{'exit':<9} {'device':<{name}} {'count':>9}{heads}",
        ]
        for kind, device, row in self.ordered():
            cells = _cells(row.service, SERVICE_COLUMNS) + _cells(row.guest, GUEST_COLUMNS)
            lines.append(f"{kind:<9} {device or '-':<{name}} {row.count:>9}{cells}")
        lines.append(f"{'all':<9} {'':<{name}} {self.count:>9}")
        return "\n".join(lines)


def _cells(histogram: Histogram, columns: tuple[str, ...]) -> str:
    times = histogram.microseconds()
    shown = (times[column] if histogram.count else None for column in columns)
    return "".join(f"{'-' if time is None else f'{time:.1f}' if time < 10_000 else f'{time:.0f}':>9}" for time in shown)
