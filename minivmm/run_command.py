"""`minivmm run IMAGE`: a flat or ELF guest on the terminal.

Exit codes: 0 the guest halted; (value << 1) | 1 for a guest that used debug-exit, as QEMU gives it; 124 time-out; 125
the guest died, explained on stderr; 2 bad usage, bad image or no backend; 130 Ctrl-C.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TextIO

import click

from minivmm.accel import ACCELERATORS, NoBackendError, choose
from minivmm.boot.image import BadImageError, load_image
from minivmm.exits import Exit
from minivmm.kvm.errors import KvmError
from minivmm.machine import Machine
from minivmm.stdin import feed_from_stdin

MIB = 1 << 20
MOST_MEMORY = 1 << 20  # MiB: a TiB, more than any host that runs this


class Address(click.ParamType[int]):
    """A number as programmers write addresses: 4096, 0x1000, 0b1, 1_000."""

    name = "address"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(str(value), 0)
        except ValueError:
            self.fail(f"{value!r} is not a number like 4096 or 0x1000", param, ctx)
        if not 0 <= number < 1 << 52:
            self.fail(f"{value!r} is not a guest-physical address (0 to 2^52 - 1)", param, ctx)
        return number


@click.command()
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--accel", type=click.Choice(ACCELERATORS), default="auto", show_default=True, help="What answers the KVM API."
)
@click.option("--memory", type=click.IntRange(1, MOST_MEMORY), default=16, show_default=True, help="RAM, in MiB.")
@click.option("--load", type=Address(), help="Where a flat image goes. [default: 0x1000]")
@click.option(
    "--mode",
    type=click.Choice(["real", "protected", "long"]),
    help="The mode to start in. [default: real; ELF: its own]",
)
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), help="Stop after so many seconds, with exit code 124."
)
@click.option(
    "--trace", type=click.Path(dir_okay=False, path_type=Path), help="Write every exit to this file, as JSON lines."
)
def run(
    image: Path, accel: str, memory: int, load: int | None, mode: str | None, timeout: float | None, trace: Path | None
) -> None:
    """Runs IMAGE, an ELF executable or else a flat binary: loaded and entered at 0x1000 in real mode with CS=0.

    A 16550 at port 0x3F8 is standard output and input; a write of V to port 0xF4 ends the run with exit code
    (V << 1) | 1.
    """
    try:
        sys.exit(_run(image, accel, memory, load, mode, timeout, trace))
    except (BadImageError, NoBackendError) as error:
        raise click.UsageError(str(error)) from None
    except KvmError as error:
        raise click.UsageError(f"KVM can't run this: {error}") from None
    except OSError as error:
        raise click.UsageError(f"{error.filename or image}: {error.strerror}") from None
    except KeyboardInterrupt:
        sys.exit(130)


def _run(
    image: Path, accel: str, memory: int, load: int | None, mode: str | None, timeout: float | None, trace: Path | None
) -> int:
    choice = choose(accel)
    data = image.read_bytes()
    with Machine(memory * MIB, choice.backend, sink=_write) as machine, _tracing(machine, trace):
        load_image(machine.vcpu, machine.memory, data, mode=mode, load=load)  # type: ignore[arg-type]
        with feed_from_stdin(machine.uart):
            stop = machine.run(timeout)
        if stop.reason == "timeout":
            from minivmm.debug import where

            click.echo(
                f"The guest was still running after {timeout:g} s, {where(machine.vcpu, machine.memory)}.", err=True
            )
    if stop.explanation is not None:
        click.echo(stop.explanation.text(), err=True)
    return stop.exit_code


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@contextmanager
def _tracing(machine: Machine, path: Path | None) -> Iterator[None]:
    with path.open("w", encoding="utf-8") if path else nullcontext() as file:
        if file is not None:
            machine.on_exit = _Tracer(file).write
        yield


class _Tracer:
    """Writes each exit as one JSON object: seconds since the start, the kernel's name, and a line for a person."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._start = time.perf_counter()

    def write(self, exit: Exit) -> None:
        seconds = round(time.perf_counter() - self._start, 6)
        self._file.write(json.dumps({"seconds": seconds, "exit": exit.name, "text": str(exit)}) + "\n")
