"""The library's devices on loan: each in the state of one of the lab's, which has that state afterwards.

The library's devices keep their registers to themselves, so whoever wants one to act makes it from the lab's registers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from minivmm.devices.uart import Uart
from minivmm.lab_console.chips import Controller, Serial


def nothing(_: object) -> None:
    """For wires that lead nowhere."""


def in_state_of(state: dict[str, Any], keyboard: Controller) -> dict[str, Any]:
    """A controller's saved state that has the lab's registers, and an empty output buffer."""
    ram = [keyboard.config, *state["ram"][1:]]
    registers = [0, state["registers"][1] & ~1, 0, keyboard.expects]
    return state | {"ram": ram, "registers": registers}


def modem_lines(chip: Serial) -> int:
    """The upper half of MSR: the lines themselves. Looking takes no delta away."""
    with library_uart(chip) as uart:
        before = uart.save()
        lines = uart.read(6, 1) & 0xF0
        uart.load(before)
    return lines


@contextmanager
def library_uart(chip: Serial, line: Callable[[bool], object] = nothing, **changed: int) -> Iterator[Uart]:
    """The library's UART in the chip's state; `line` hears of its interrupt. The chip has its state afterwards.

    `changed` are fields that shall be different for this moment.
    """
    now = {name: getattr(chip, name) for name in ("ier", "fcr", "lcr", "mcr", "scr")} | changed
    uart = Uart(chip.sent.extend, set_line=line)
    uart.load({
        "receiver": {"line": [], "fifo": chip.fifo, "fcr": now["fcr"], "errors": chip.errors},
        "modem": {"mcr": now["mcr"], "deltas": chip.deltas, "heeds_rts": False},
        "divisor": chip.divisor, "ier": now["ier"], "lcr": now["lcr"], "scratch": now["scr"],
        "thr_emptied": bool(chip.thre),
    })  # fmt: skip
    yield uart
    state = uart.save()
    chip.fifo, chip.errors = list(state["receiver"]["fifo"]), state["receiver"]["errors"]
    chip.divisor, chip.deltas, chip.thre = state["divisor"], state["modem"]["deltas"], state["thr_emptied"]
    after = {"fcr": state["receiver"]["fcr"], "mcr": state["modem"]["mcr"], "scr": state["scratch"]}
    after |= {name: state[name] for name in ("ier", "lcr")}
    for name, value in after.items():
        if name not in changed:
            setattr(chip, name, value)
