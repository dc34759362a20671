"""`minivmm run IMAGE`: a guest on the terminal, from a few bytes to a Linux kernel.

Exit codes: 0 the guest halted, powered off or reset; (value << 1) | 1 for a guest that used debug-exit, as QEMU gives
it; 124 time-out; 125 the guest died, explained on stderr; 2 bad usage, bad image or no backend; 130 Ctrl-C.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from minivmm.accel import ACCELERATORS, LINUX, Choice, NoBackendError, choose
from minivmm.boot.errors import BadImageError
from minivmm.boot.image import KERNELS
from minivmm.boot.platform import MOST_CPUS
from minivmm.boot.recognise import Kind
from minivmm.kvm.errors import KvmError
from minivmm.run_options import APPEND, ImageFile, Options
from minivmm.session import Session

MOST_MEMORY = 1 << 20  # MiB: a TiB, more than any host that runs this
FLAT_MEMORY, KERNEL_MEMORY = 16, 256  # MiB
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


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
@click.argument("image", type=FILE)
@click.option(
    "--accel", type=click.Choice(ACCELERATORS), default="auto", show_default=True, help="What answers the KVM API."
)
@click.option(
    "--memory",
    type=click.IntRange(1, MOST_MEMORY),
    metavar="MIB",
    help=f"RAM. [default: {FLAT_MEMORY}; kernels: {KERNEL_MEMORY}]",
)
@click.option(
    "--cpus", type=click.IntRange(1, MOST_CPUS), default=1, show_default=True, metavar="N", help="How many processors."
)
@click.option(
    "--irqchip",
    type=click.Choice(["kernel", "split", "user"]),
    help="Where the interrupt controllers are: in KVM, in KVM and here, all here. [default: none; kernels: kernel]",
)
@click.option("--initrd", type=FILE, help="A kernel's initial RAM disk; multiboot: a module.")
@click.option("--append", metavar="TEXT", help=f"A kernel's command line. [default: Linux: {APPEND['uart']}]")
@click.option(
    "--console",
    type=click.Choice(tuple(APPEND)),
    default="uart",
    show_default=True,
    help="The device that reads what you type: the 16550 (ttyS0), or a virtio console (hvc0).",
)
@click.option("--disk", type=FILE, multiple=True, help="A raw image as a virtio disk: /dev/vda; again: /dev/vdb, …")
@click.option("--disk-read-only", is_flag=True, help="The guest can't write to the disks.")
@click.option("--load", type=Address(), help="Where a flat image goes. [default: 0x1000]")
@click.option(
    "--mode",
    type=click.Choice(["real", "protected", "long"]),
    help="The mode to start in. [default: real; ELF: its own]",
)
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), metavar="S", help="Stop after S seconds, with exit code 124."
)
@click.option(
    "--deterministic",
    is_flag=True,
    help="On soft: time is counted in instructions, and chance is fixed, so that every run of a guest is the same.",
)
@click.option("--reboot", is_flag=True, help="Start again when the guest asks for a reset, instead of ending.")
@click.option("--gdb", type=click.IntRange(0, 65535), metavar="PORT", help="Wait for gdb on this port (0: any).")
@click.option(
    "--trace", type=click.Path(dir_okay=False, path_type=Path), help="Write every exit to this file, as JSON lines."
)
@click.option(
    "--trace-filter", default="", metavar="TERMS", help="Which of them, such as io,device=uart or mmio,slower=50us."
)
@click.option("--trace-summary", is_flag=True, help="At the end, show counts and times of the exits.")
def run(**given: Any) -> None:
    """Runs IMAGE, which is recognised by its content: a Linux kernel (bzImage), a PVH or multiboot kernel, an ELF
    executable, or else a flat binary, loaded and entered at 0x1000 in real mode with CS=0.

    A 16550 at port 0x3F8 is standard output and input: on a terminal, Ctrl-A x leaves, Ctrl-A c is a monitor. A write
    of V to port 0xF4 ends the run with exit code (V << 1) | 1.
    """
    try:
        options = _options(**given)
        given.clear()
        sys.exit(Session(options, _say).run())
    except NoBackendError as error:
        raise click.UsageError(str(error)) from None
    except KvmError as error:
        raise click.UsageError(f"KVM can't run this: {error}") from None
    except OSError as error:
        raise click.UsageError(f"{error.filename or given.get('image', 'error')}: {error.strerror}") from None
    except ValueError as error:  # BadImageError, DiskImageError, TraceFilterError, more disks than interrupts
        raise click.UsageError(str(error)) from None
    except KeyboardInterrupt:
        sys.exit(130)


def _options(
    image: Path,
    accel: str,
    memory: int | None,
    irqchip: str | None,
    disk: tuple[Path, ...],
    cpus: int,
    deterministic: bool,
    **rest: Any,
) -> Options:
    """Fills in what was left open. Raises NoBackendError, BadImageError, OSError."""
    guest = ImageFile(image)
    kind = guest.kind
    if irqchip == "user" and cpus > 1:
        raise BadImageError("With --irqchip user there are no APICs, so there is one processor: leave --cpus away.")
    if deterministic and cpus > 1:
        raise BadImageError("With --deterministic there is one processor, for several would race: leave --cpus away.")
    if deterministic and irqchip in ("split", "user"):
        raise BadImageError("With --deterministic the timers must be the backend's own: leave --irqchip away.")
    wants_irqchip = kind in KERNELS or cpus > 1
    return Options(
        image=guest,
        backend=_choice(accel, kind, counting=deterministic).backend,
        memory=memory or (KERNEL_MEMORY if kind in KERNELS else FLAT_MEMORY),
        irqchip=irqchip or ("kernel" if wants_irqchip else "none"),
        disks=disk,
        cpus=cpus,
        deterministic=deterministic,
        **rest,
    )


def _choice(accel: str, kind: Kind, *, counting: bool) -> Choice:
    """The backend, with a word on stderr where it isn't the one that everybody expects."""
    choice = choose(accel, (LINUX,) if kind == "linux" else (), counting=counting)
    if accel == "auto" and choice.backend.name != "kvm":
        _say(f"Running on {choice.backend.name}: {choice.reason}.")
    return choice


def _say(text: str) -> None:
    click.echo(text, err=True)
