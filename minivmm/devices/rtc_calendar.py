"""The ten time registers of a PC's clock: seconds since 1970 to register values, and back.

Source: Motorola MC146818 datasheet, "Time, Calendar and Alarm Locations" (table 3); the century at 0x32 is the BIOS's
convention, which the FADT names.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from minivmm.devices.bcd import from_bcd, to_bcd

SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY = 0, 2, 4, 6, 7, 8, 9, 0x32
REGISTERS = SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY
B_BINARY, B_24H = 0x04, 0x02  # the bits of register B that say how the numbers are written
PM = 0x80  # in the hours, where they count to 12
ANY = 0xC0

_DAY = 86_400
_EPOCH = date(1970, 1, 1).toordinal()
_FIRST = (1 - _EPOCH) * _DAY
_LAST = (date(9999, 12, 31).toordinal() + 1 - _EPOCH) * _DAY - 1


def encode(seconds: int, b: int) -> dict[int, int]:
    """The time registers for `seconds` since 1970 (UTC), in the format that register B has. The years 1 to 9999."""
    day, second = divmod(min(max(seconds, _FIRST), _LAST), _DAY)
    today = date.fromordinal(day + _EPOCH)
    hour = second // 3600
    values = {
        SECONDS: second % 60,
        MINUTES: second // 60 % 60,
        HOURS: hour if b & B_24H else (hour - 1) % 12 + 1,
        WEEKDAY: today.isoweekday() % 7 + 1,  # Sunday is 1
        DAY: today.day,
        MONTH: today.month,
        YEAR: today.year % 100,
        CENTURY: today.year // 100,
    }
    if not b & B_BINARY:
        values = {register: to_bcd(value) for register, value in values.items()}
    if not b & B_24H and hour >= 12:
        values[HOURS] |= PM
    return values


def decode(registers: Mapping[int, int], b: int) -> int:
    """Seconds since 1970 from the time registers. A date that can't be is made one: the 31st of February is in March.

    The weekday is not looked at: it follows from the date.
    """
    year = _number(registers[CENTURY], b) * 100 + _number(registers[YEAR], b)
    month = min(max(_number(registers[MONTH], b), 1), 12)
    first = date(min(max(year, 1), 9999), month, 1).toordinal()
    days = first - _EPOCH + max(_number(registers[DAY], b), 1) - 1
    minutes = _hour(registers[HOURS], b) % 24 * 60 + _number(registers[MINUTES], b) % 60
    return days * _DAY + minutes * 60 + _number(registers[SECONDS], b) % 60


def next_alarm(after: int, alarm: tuple[int, int, int], b: int) -> int | None:
    """The first moment later than `after` (both in seconds since 1970) at which the alarm goes off.

    `alarm` is the alarm registers for seconds, minutes, hours; 0xC0 and up means "any". None where no moment matches.
    """
    second = None if alarm[0] >= ANY else _number(alarm[0], b)
    minute = None if alarm[1] >= ANY else _number(alarm[1], b)
    hour = None if alarm[2] >= ANY else _hour(alarm[2], b)
    if (hour or 0) > 23 or (minute or 0) > 59 or (second or 0) > 59:
        return None
    at = after + 1
    while True:
        if hour is not None and at // 3600 % 24 != hour:
            at += 3600 - at % 3600
        elif minute is not None and at // 60 % 60 != minute:
            at += 60 - at % 60
        elif second is not None and at % 60 != second:
            at += (second - at) % 60
        else:
            return at


def _number(value: int, b: int) -> int:
    return value if b & B_BINARY else from_bcd(value)


def _hour(value: int, b: int) -> int:
    if b & B_24H:
        return _number(value, b)
    return _number(value & ~PM, b) % 12 + (12 if value & PM else 0)
