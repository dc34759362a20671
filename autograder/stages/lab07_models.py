"""What the guests of lab 07 print, computed in Python. See models.py; these are answers, and nothing on the sandbox's
side may import them.

Time passes by the guest's own work only, so what it sees of clocks and timers is arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autograder.stages.models import Stream, model

ApicTimer = Callable[[int, int, int, int], tuple[int, int]]


def counter(mode: int, count: int, elapsed: int) -> tuple[int, bool]:
    """An 8254 counter `elapsed` ticks after `count` was loaded: what it holds, and its output."""
    count = count or 0x10000
    if mode == 0:
        return count - elapsed & 0xFFFF, elapsed >= count
    into = elapsed % count
    if mode == 2:
        return count - into & 0xFFFF, into != count - 1
    high = (count + 1) // 2
    return (count & ~1) - 2 * (into if into < high else into - high) & 0xFFFF, into < high


def next_rise(mode: int, count: int, elapsed: int) -> int | None:
    """The first tick after `elapsed` at which the output rises."""
    count = count or 0x10000
    if mode == 0:
        return count if elapsed < count else None
    return (elapsed // count + 1) * count


def apic_timer(initial: int, divide: int, entry: int, elapsed: int) -> tuple[int, int]:
    """The local APIC's timer `elapsed` clocks after it was started: current count, and interrupts so far."""
    if not initial:
        return 0, 0
    code = divide & 3 | divide >> 1 & 4
    steps = elapsed // (1 if code == 7 else 2 << code)
    masked = entry >> 16 & 1
    if entry >> 17 & 1:
        return initial - steps % initial, 0 if masked else steps // initial
    return max(initial - steps, 0), 0 if masked else int(steps >= initial)


def pit_readings(p: Any) -> list[tuple[int, int, int]]:
    """The counts that `pit-reader` loads, and the ticks behind each load at which it latches, and reads."""
    stream, found = Stream(p.nonce), []
    for _ in range(p.count):
        count = stream.next() >> 16 & p.value & 0xFFFF | p.value >> 16 & 0xFFFF
        first = stream.next() >> 16
        found.append((count, first, first + (stream.next() >> 16)))
    return found


@model("pit-reader")
def pit_reader(p: Any) -> bytes:
    lines, mode = "", p.option >> 1 & 7
    for count, *moments in pit_readings(p):
        latched, present = (counter(mode, count, elapsed)[0] for elapsed in moments)
        lines += f"{count:04x} {latched:04x} {present:04x}\n"
    return lines.encode()


@model("tick-sleeper")
def tick_sleeper(p: Any, due: Sequence[int] = (5000, 10_000, 15_000), start: int = 0) -> bytes:
    """`due`: the ticks at which the timer fires; `start`: what the clock shows at first."""
    stream, lines, now, left = Stream(p.nonce), "", start, list(due)
    for wakes in range(1, min(p.count, len(due)) + 1):
        now = max(now + (stream.next() >> 20), left.pop(0))
        lines += f"{now & 0xFFFF_FFFF:08x} {wakes:02x} {stream.byte():02x}\n"
    return lines.encode()


@model("busy-worker")
def busy_worker(p: Any, due: Sequence[int] = (500, 3000, 6000), start: int = 0) -> bytes:
    """`due`: the ticks at which the timer fires, far enough apart that at most one comes in a round."""
    stream, lines, now, came, when, left = Stream(p.nonce), "", start, 0, 0, list(due)
    for _ in range(p.count):
        now += sum(stream.next() >> 22 for _ in range(p.size))
        if left and left[0] <= now:
            left.pop(0)
            came, when = came + 1, now
        lines += f"{came:02x} {when & 0xFFFF_FFFF:08x}\n"
    return lines.encode()


@model("apic-ticker")
def apic_ticker(p: Any, timer: ApicTimer = apic_timer) -> bytes:
    """Interrupts that come due in one wait are one, as in an APIC's IRR."""
    stream, lines, elapsed, came, fired = Stream(p.nonce), "", 0, 0, 0
    initial = (stream.next() >> 22) + 1
    for _ in range(p.count):
        elapsed += stream.next() >> (p.option >> 8 & 31)
        current, total = timer(initial, p.option & 0xFF, p.value, elapsed)
        came, fired = came + (total > fired), total
        lines += f"{current:08x} {came:02x}\n"
    return lines.encode()


@model("clock-reader")
def clock_reader(p: Any, start: int = 0, ns: Callable[[int], int] = lambda tick: tick) -> bytes:
    """`ns`: the time at a tick of the clock, which starts at `start`. All pages must agree on it."""
    stream, lines, now = Stream(p.nonce), "", start
    for _ in range(p.count):
        lines += f"{ns(now) & (1 << 64) - 1:016x}\n"
        now += stream.next() >> 20
    return lines.encode()


def pieces_of_work(p: Any) -> list[tuple[str, int]]:
    """The letters that `worker` prints, each with the length of its work in ticks."""
    stream = Stream(p.nonce)
    return [(chr(ord("a") + (stream.byte() >> 4)), (stream.next() >> 20 & p.option) + p.value) for _ in range(p.count)]


@model("worker")
def worker(p: Any) -> bytes:
    return "".join(letter for letter, _ in pieces_of_work(p)).encode()


@model("steal-reader")
def steal_reader(p: Any, stolen: Sequence[int] = ()) -> bytes:
    """`stolen`: what the page says at each reading, in ns; the last value stays."""
    stream, lines = Stream(p.nonce), ""
    for number in range(p.count):
        stream.next()
        shown = (stolen[min(number, len(stolen) - 1)] if stolen else 0) & (1 << 64) - 1
        lines += f"{shown:016x} {stream.byte():02x}\n"
    return lines.encode()


@model("three-tasks")
def three_tasks(p: Any, ticks: bool = True) -> bytes:
    """An interrupt each `value` ticks; those that are missed while a piece of work is done are one. Without `ticks` the
    first task alone gets anywhere. A tick that comes at the end of a piece comes before its letter."""
    period = p.value & 0xFFFF or 0x10000
    streams = [Stream((p.nonce & ~0xFFFF_FFFF) | (p.nonce + number & 0xFFFF_FFFF)) for number in range(3)]
    left, done = [p.count] * 3, [False] * 3
    log, now, due, task = "", 0, period, 0
    while True:
        if done[task]:
            log += "ABC"[task]
            left[task], done[task] = left[task] - 1, False
            if not any(left):
                return log.encode()
            continue
        if left[task]:
            now, done[task] = now + (streams[task].next() >> 22), True
        elif ticks:
            now = max(now, due)  # it sleeps
        else:
            return log.encode()
        if ticks and now >= due:
            due, task = (now // period + 1) * period, (task + 1) % 3
