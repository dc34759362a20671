"""What each reference guest prints, computed in Python: the supervisor's side of the nonce.

    expected_console("hello", {"nonce": 0x1234}) == b"Hello, 0000000000001234\\n"

Parameters that are left out have the guest's own defaults. What the host answers (bytes read from a port, the contents
of memory) is given by name. The rules are those in the guests' sources; tests/guests holds each against a real run.

These are answers: nothing on the sandbox's side may import this module.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

from autograder import stages
from minivmm import guests

MODELS: dict[str, Callable[..., bytes]] = {}


def expected_console(name: str, parameters: Mapping[str, int] | None = None, **host: Any) -> bytes:
    """The bytes that the guest `name` writes to its port, of every width, little endian, in order.

    Raises KeyError for a guest without a model, GuestError for parameters that it does not take.
    """
    guest = guests.load(name)
    guest.patched(**(parameters or {}))  # refuses what the guest would refuse
    return all_models()[name](SimpleNamespace(**{**guest.defaults, **(parameters or {})}), **host)


@cache
def all_models() -> dict[str, Callable[..., bytes]]:
    """Every model, by the guest's name: those below, and those that the modules labNN_models register."""
    for module in pkgutil.iter_modules(stages.__path__):
        if module.name.endswith("_models"):
            importlib.import_module(f"{stages.__name__}.{module.name}")
    return MODELS


def model(name: str) -> Callable[[Callable[..., bytes]], Callable[..., bytes]]:
    """Registers a function as the model of the guest `name`."""

    def register(function: Callable[..., bytes]) -> Callable[..., bytes]:
        MODELS[name] = function
        return function

    return register


class Stream:
    """The nonce as a stream of numbers; guests/include/stream.inc is the same in assembly."""

    def __init__(self, nonce: int) -> None:
        self.state = nonce & 0xFFFF_FFFF
        self.increment = nonce >> 32 | 1

    def next(self) -> int:
        """The next number, 32 bits."""
        self.state = (self.state * 1664525 + self.increment) & 0xFFFF_FFFF
        return self.state

    def byte(self) -> int:
        """The next byte: the top eight bits of the next number."""
        return self.next() >> 24


def checksum(nonce: int, data: bytes) -> str:
    """The keyed checksum of `data` as the guests compute it, 16 hexadecimal digits."""
    a, b = nonce & 0xFFFF_FFFF, nonce >> 32
    for byte in data:
        a = ((a << 5 | a >> 27) & 0xFFFF_FFFF) ^ byte
        b = (b + a) & 0xFFFF_FFFF
    return f"{b:08x}{a:08x}"


@model("hello")
def hello(p: Any) -> bytes:
    return f"Hello, {p.nonce:016x}\n".encode()


@model("countdown")
def countdown(p: Any) -> bytes:
    stream = Stream(p.nonce)
    return "".join(f"{left:08x} {stream.next():08x}\n" for left in range(p.count, 0, -1)).encode()


@model("rep-outsb")
def rep_outsb(p: Any) -> bytes:
    stream = Stream(p.nonce)
    return bytes(ord("a") + (stream.byte() >> 4) for _ in range(p.count))


@model("rep-insb")
def rep_insb(p: Any, received: bytes = b"") -> bytes:
    """`received`: what the port answered; after its end the port reads 0xFF."""
    stream = Stream(p.nonce)
    return bytes(byte ^ stream.byte() for byte in received[: p.count].ljust(p.count, b"\xff"))


@model("port-echo")
def port_echo(p: Any, received: bytes = b"") -> bytes:
    """`received`: what the port answered; after its end the port reads 0xFF."""
    stream = Stream(p.nonce)
    line, _, _ = received[: p.count].partition(b"\0")
    if line == received:
        line = received.ljust(p.count, b"\xff")
    return bytes(byte ^ stream.byte() for byte in line)


@model("port-widths")
def port_widths(p: Any, answers: Sequence[int] = (0xFF, 0xFFFF, 0xFFFF_FFFF)) -> bytes:
    """`answers`: what the port answered to the reads of 1, 2 and 4 bytes."""
    stream = Stream(p.nonce)
    sent = b""
    for width, answer in zip((1, 2, 4), answers, strict=True):
        mask = (1 << 8 * width) - 1
        sent += (stream.next() & mask).to_bytes(width, "little")
        sent += ((stream.next() ^ answer) & mask).to_bytes(width, "little")
    return sent


@model("checksum")
def checksum_guest(p: Any, data: bytes = b"") -> bytes:
    """`data`: the bytes of the range, as the guest should find them."""
    return f"{checksum(p.nonce, data)}\n".encode()


MODELS["checksum-real"] = checksum_guest
MODELS["checksum-long"] = checksum_guest


@model("multiboot-hello")
def multiboot_hello(
    p: Any, upper: int = 0, ram: int = 0, modules: Sequence[bytes] = (), command_line: bytes = b""
) -> bytes:
    """`upper`: KiB of RAM from 1 MiB on; `ram`: bytes of RAM in the memory map; the modules; the command line."""
    high, low = p.nonce >> 32, p.nonce & 0xFFFF_FFFF
    lines = [f"hello {high:08x} {low:08x}", "state 2badb002 00000001 00000000", f"ram {upper:08x} {ram:08x}"]
    sums = [checksum(p.nonce, module) for module in modules]
    lines += [f"module {each[:8]} {each[8:]}" for each in sums]
    return "\n".join(lines).encode() + b"\ncommand " + command_line + b"\n"


@model("triple-fault")
@model("spinner")
def one_byte(p: Any) -> bytes:
    return bytes([Stream(p.nonce).byte()])


@model("debug-exit")
def debug_exit(p: Any) -> bytes:
    """The value that goes to the debug-exit port; the exit status of `minivmm run` is (value << 1) | 1."""
    return bytes([Stream(p.nonce).byte() & 0x7F])


@model("rep-outsw")
def rep_outsw(p: Any) -> bytes:
    stream = Stream(p.nonce)
    return b"".join((stream.next() & 0xFFFF).to_bytes(2, "little") for _ in range(p.count))


@model("unknown-port")
def unknown_port(p: Any, answers: Sequence[int] = (0xFF, 0xFFFF, 0xFFFF_FFFF)) -> bytes:
    """`answers`: what reads of 1, 2 and 4 bytes found; all ones where nobody answers."""
    return "{:08x} {:02x} {:04x} {:08x}\n".format(Stream(p.nonce).next(), *answers).encode()


@model("mode-walk")
def mode_walk(p: Any, long_mode: bool = True) -> bytes:
    """`long_mode`: whether CPUID offers it."""
    stream = Stream(p.nonce)
    steps = (("r", 0, 0, 0), ("p", 0, 1, 0x08), ("c", 0x500, 0x8000_0001, 0x08), ("l", 0x500, 0x8000_0001, 0x18))
    lines = [f"{letter} {efer:08x} {cr0:08x} {cs:04x} {stream.next():08x}\n" for letter, efer, cr0, cs in steps]
    return "".join(lines if long_mode else [*lines[:2], "x\n"]).encode()


def real_segments_writes(nonce: int) -> tuple[list[tuple[int, int, int]], list[str]]:
    """The writes of real-segments as (segment, offset, byte), and the lines that it prints but for the last."""
    stream = Stream(nonce)
    segment = 0x1000 + (stream.next() >> 20)
    offset = stream.next() >> 17 | 0x10
    first, second = stream.byte(), stream.byte()
    shown = [(segment, offset, first), (segment + 1, offset - 16, first), (segment, 0x0010, second)]
    lines = [f"{each[0]:04x}:{each[1]:04x} {each[2]:02x}\n" for each in shown]
    return [shown[0], shown[2]], lines


@model("real-segments")
def real_segments(p: Any, above: int = 0xFF) -> bytes:
    """`above`: the byte at 0x100000; all ones where RAM ends at 1 MiB."""
    _, lines = real_segments_writes(p.nonce)
    return ("".join(lines) + f"ffff:0010 {above:02x}\n").encode()


def _hello_in_mode(proof: int) -> Callable[..., bytes]:
    return lambda p: f"Hello, {p.nonce:016x}, {p.nonce & 0xFFFF_FFFF ^ proof:08x}\n".encode()


MODELS["real-hello"] = _hello_in_mode(0x0000_0002)
MODELS["protected-hello"] = _hello_in_mode(0x00EB_0002)
MODELS["long-hello"] = _hello_in_mode(0x00EB_0001)


@model("segment-base")
def segment_base(p: Any, values: Sequence[int] = (), limit: int = 0xFFFF_FFFF) -> bytes:
    """`values`: the 32-bit numbers in the segment from offset `address` on; `limit`: its last valid offset."""
    stream = Stream(p.nonce)
    out = ""
    for i in range(p.count):
        offset = p.address + 4 * i
        if offset + 3 > limit:
            return f"{out}#GP {offset:08x}\n".encode()
        out += f"{values[i]:08x} {stream.next():08x}\n"
    return out.encode()


@model("segment-load")
def segment_load(p: Any, values: Sequence[int] = (), limit: int = 0xFFFF_FFFF, refused: str = "") -> bytes:
    """As segment-base; `refused`: "#NP" or "#GP" where the selector itself can't be loaded."""
    return f"{refused} {p.option:08x}\n".encode() if refused else segment_base(p, values, limit)


@model("cpuid-reader")
def cpuid_reader(p: Any, leaves: Sequence[tuple[int, int, int, int]] = ()) -> bytes:
    """`leaves`: EAX, EBX, ECX, EDX of each of the `count` leaves."""
    numbers = [register for leaf in leaves[: p.count] for register in leaf] + [Stream(p.nonce).next()]
    return b"".join(number.to_bytes(4, "little") for number in numbers)


@model("msr-reader")
def msr_reader(p: Any, before: int = 0) -> bytes:
    """`before`: what the register held when the guest started."""
    lines = [f"{before:016x}\n"] + ([f"{p.nonce & p.option:016x}\n"] if p.option else [])
    return ("".join(lines) + f"{Stream(p.nonce).next():08x}\n").encode()


def mmio_prober_writes(nonce: int, address: int) -> list[tuple[int, int, int]]:
    """The writes that mmio-prober makes, as (address, size in bytes, value). The last one crosses a page boundary."""
    stream = Stream(nonce)
    writes = []
    for offset, size in ((0, 1), (0x10, 2), (0x20, 4), (0x30, 8), (0xFFC, 8)):
        pair = stream.next() | stream.next() << 32
        writes.append((address + offset, size, pair & (1 << 8 * size) - 1))
    return writes


@model("mmio-prober")
def mmio_prober(p: Any, answers: Sequence[int] = (0xFF, 0xFFFF, 2**32 - 1, 2**64 - 1, 2**64 - 1)) -> bytes:
    """`answers`: what the five reads find, of 1, 2, 4, 8 and 8 bytes."""
    stream = Stream(p.nonce)
    for _ in range(10):
        stream.next()
    return ("".join(f"{answer:016x}\n" for answer in answers) + f"{stream.next():08x}\n").encode()


@model("rom-writer")
def rom_writer(p: Any, found: bytes | None = None) -> bytes:
    """`found`: the bytes that the guest finds afterwards; by default the ones that it wrote."""
    return _written_and_found(p.nonce, p.size, found)


@model("hole-prober")
def hole_prober(p: Any, found: bytes | None = None) -> bytes:
    """`found`: the bytes below, first in, last in and above the hole; by default RAM that remembers, and all ones."""
    stream = Stream(p.nonce)
    below, _, _, above = (stream.byte() for _ in range(4))
    return _written_and_found(p.nonce, 4, bytes([below, 0xFF, 0xFF, above]) if found is None else found)


def _written_and_found(nonce: int, size: int, found: bytes | None) -> bytes:
    stream = Stream(nonce)
    written = bytes(stream.byte() for _ in range(size))
    pairs = zip(written, written if found is None else found, strict=True)
    return "".join(f"{wrote:02x} > {saw:02x}\n" for wrote, saw in pairs).encode()


def page_toucher_writes(nonce: int, address: int, size: int, count: int) -> list[tuple[int, int]]:
    """The writes that page-toucher makes, in order, as (address, 32-bit value). The same page may come twice."""
    stream = Stream(nonce)
    writes = []
    for _ in range(count if size >> 12 else 0):
        page = stream.next() * (size >> 12) >> 32
        value = stream.next()
        writes.append((address + (page << 12) + (value >> 20 & 0xFFC), value))
    return writes


@model("page-toucher")
def page_toucher(p: Any) -> bytes:
    stream = Stream(p.nonce)
    for _ in range(2 * p.count if p.size >> 12 else 0):
        stream.next()
    return f"{stream.next():08x}\n".encode()


@model("elf-segments")
def elf_segments(p: Any, bss: bytes = bytes(0x1800)) -> bytes:
    """`bss`: what the guest should find in its bss, zeros unless the loader is at fault."""
    rodata = b"constants, in pages that nobody should write to"
    data = b"variables, whose first values come with the file"
    pieces = {"rodata": rodata, "data": data, "bss": bss}
    return "".join(f"{name} {checksum(p.nonce, piece)}\n" for name, piece in pieces.items()).encode()
