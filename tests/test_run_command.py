"""`minivmm run` as a user meets it: a process with an exit code, standard output, and one sentence when it can't."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minivmm import guests
from minivmm.kvm import host

RUN = (sys.executable, "-c", "from minivmm.cli import main; main()", "run")
PATIENCE = 60
Spawn = Callable[..., "subprocess.Popen[Any]"]


@pytest.fixture(params=["soft", pytest.param("kvm", marks=pytest.mark.kvm)])
def accel(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(*arguments: str | Path, accel: str, typed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [*RUN, *map(str, arguments), "--accel", accel]
    return subprocess.run(command, input=typed, capture_output=True, timeout=PATIENCE, check=False)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "guest.bin"


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """A multiboot kernel."""
    path = tmp_path / "kernel"
    path.write_bytes(guests.load("multiboot-hello").patched(nonce=1))
    return path


def test_hello(image: Path, accel: str) -> None:
    image.write_bytes(guests.load("hello").patched(nonce=0xABCDEF))
    done = run(image, accel=accel)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Hello, 0000000000abcdef\n", b"")


# mov dx, 0x3fd; w: in al, dx; test al, 1; jz w; mov dx, 0x3f8; in al, dx; out dx, al; cmp al, '.'; jne start; hlt
ECHO = bytes.fromhex("bafd03 ec a801 74fb baf803 ec ee 3c2e 75ef f4")


def test_a_program_that_echoes_what_is_piped_in(image: Path, accel: str) -> None:
    image.write_bytes(ECHO)
    done = run(image, "--timeout", "10", accel=accel, typed=b"one two.")
    assert (done.returncode, done.stdout) == (0, b"one two.")


def test_what_comes_late_comes_too(image: Path, accel: str, spawn: Spawn) -> None:
    image.write_bytes(ECHO)
    child = spawn([*RUN, image, "--accel", accel], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    for part in (b"one", b"two", b"three."):
        child.stdin.write(part)
        child.stdin.flush()
        assert child.stdout.read(len(part)) == part
    assert child.wait(PATIENCE) == 0


def test_debug_exit(image: Path, accel: str) -> None:
    image.write_bytes(bytes.fromhex("b010 e6f4 f4"))
    assert run(image, accel=accel).returncode == 33


def test_time_out(image: Path, accel: str) -> None:
    image.write_bytes(b"\xeb\xfe")
    done = run(image, "--timeout", "0.2", accel=accel)
    assert done.returncode == 124
    assert done.stderr == b"The guest was still running after 0.2 s, at 0x1000, `jmp 0x1000`.\n"


# What kills it, the mode, and what must be said of it.
DEATHS = {
    "triple fault": ("0f0b", "protected", ("Likely cause", "ud2", "#UD")),
    "an MSR that there isn't": ("b9efbeadde 0f32", "long", ("rdmsr", "0xdeadbeef", "The last exits")),
    "a jump into a hole": ("b8000000d0 ffe0", "protected", ("0xd0000000", "no memory")),
    "a page fault": ("48b80000000001000000 8a00", "long", ("page walk of 0x100000000", "0x100000000")),
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_death_is_explained(death: str, image: Path, accel: str) -> None:
    code, mode, words = DEATHS[death]
    image.write_bytes(bytes.fromhex(code))
    done = run(image, "--mode", mode, "--load", "0x2000", "--timeout", "20", accel=accel)
    told = done.stderr.decode()
    assert done.returncode == 125, told
    for word in (*words, "The registers", "Likely cause"):
        assert word in told
    assert "Traceback" not in told


def test_a_hypercall_that_nobody_serves_is_an_error_for_the_guest_or_has_a_place(image: Path, accel: str) -> None:
    """KVM answers -KVM_ENOSYS (-1000) and the guest goes on; where it can't (kvm_pvm), the time-out names the place."""
    # mov eax, 99; vmcall; neg eax; cmp eax, 1000; sete al; out 0xf4, al
    image.write_bytes(bytes.fromhex("b863000000 0f01c1 f7d8 3de8030000 0f94c0 e6f4 f4"))
    done = run(image, "--mode", "protected", "--timeout", "2" if host.look().is_pvm else "20", accel=accel)
    if accel == "kvm" and host.look().is_pvm:
        assert done.returncode == 124
        assert b"vmcall" in done.stderr
    else:
        assert done.returncode == 1 << 1 | 1


def test_a_trace_is_json_lines(image: Path, tmp_path: Path, accel: str) -> None:
    image.write_bytes(guests.load("hello").patched(nonce=1))
    trace = tmp_path / "trace.jsonl"
    assert run(image, "--trace", trace, accel=accel).returncode == 0
    *lines, last = [json.loads(line) for line in trace.read_text().splitlines()]
    assert [line["exit"] for line in lines] == ["KVM_EXIT_IO"] * 24 + ["KVM_EXIT_HLT"]
    assert lines[0]["text"] == "out8 port 0x3f8: 48"
    assert sorted(line["seconds"] for line in lines) == [line["seconds"] for line in lines]
    assert last["summary"]["exits"] >= 25


def test_a_trace_is_filtered_and_summed_up(image: Path, tmp_path: Path, accel: str) -> None:
    image.write_bytes(guests.load("hello").patched(nonce=1))
    trace = tmp_path / "trace.jsonl"
    done = run(image, "--trace", trace, "--trace-filter", "hlt", "--trace-summary", accel=accel)
    assert [json.loads(line).get("kind") for line in trace.read_text().splitlines()] == ["hlt", None]
    assert re.search(r"^out +16550 UART +24 ", done.stderr.decode(), re.MULTILINE)


# The 8259A's vectors from 20H on, all masked but IRQ0; counter 0 of the 8254 ticks each 1193 / 1193182 s; then
# spin: inc ecx; jmp spin. The 60 interrupts print CL, and the last one ends the run.
TICKER = bytes.fromhex(
    "fa b011e620 b020e621 b004e621 b001e621 b0fee621 c70680003710 c70682000000 b034e643 b0a9e640 b004e640"
    "baf803 b33c fb 6641 ebfc"
    "88c8 ee b020e620 fecb 7504 b010e6f4 cf"  # mov al, cl; out dx, al; end of interrupt; dec bl; jnz + 4; debug exit
)


def test_a_deterministic_run_is_the_same_every_time(image: Path, tmp_path: Path) -> None:
    """Also where it takes so long that heartbeats interrupt it: 60 million instructions."""
    image.write_bytes(TICKER)
    trace = tmp_path / "trace.jsonl"
    arguments = ("--irqchip", "kernel", "--deterministic", "--trace", trace, "--trace-summary")
    seen = []
    for _ in range(2):
        done = run(image, *arguments, accel="soft")
        seen.append((done.returncode, done.stdout, done.stderr, trace.read_text()))
    assert seen[0] == seen[1]
    code, printed, _, text = seen[0]
    assert (code, len(printed)) == (0x10 << 1 | 1, 60)
    lines = [json.loads(line) for line in text.splitlines()[:-1]]
    times = [line["seconds"] for line in lines if line["device"] == "16550 UART"]
    assert times == pytest.approx([times[0] + tick * 1193 / 1193182 for tick in range(60)], abs=2e-6)


def test_a_kernel_that_halts_with_interrupts_off_is_over(kernel: Path, accel: str) -> None:
    """With an irqchip in the kernel, no exit says so."""
    for irqchip in ("kernel", "split", "user"):
        done = run(kernel, "--irqchip", irqchip, "--timeout", "20", accel=accel)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(b"hello ")


def test_gdb_has_the_machine_until_it_is_over(image: Path, accel: str, spawn: Spawn) -> None:
    image.write_bytes(bytes.fromhex("b010 e6f4 f4"))
    child = spawn([*RUN, image, "--accel", accel, "--gdb", "0"], stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    notice = child.stderr.readline()
    port = int(notice.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as gdb:
        gdb.sendall(b"$c#63")
        answer = b""
        while b"$W21#" not in answer:  # the guest's exit code, in hex
            received = gdb.recv(100)
            assert received, answer
            answer += received
    assert child.wait(PATIENCE) == 33


def test_a_time_out_with_gdb(image: Path, accel: str) -> None:
    image.write_bytes(b"\xf4")
    assert run(image, "--gdb", "0", "--timeout", "0.3", accel=accel).returncode == 124


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere.bin",), "does not exist"),
        (("{image}", "--memory", "0"), "not in the range"),
        (("{image}", "--load", "ten"), "'ten' is not a number like 4096 or 0x1000"),
        (("{image}", "--load", "-1"), "not a guest-physical address"),
        (("{image}", "--load", "0x7fffffff", "--mode", "long"), "give it more with --memory"),
        (("{image}", "--mode", "sideways"), "is not one of"),
        (("{image}", "--trace", "/nowhere/trace"), "No such file or directory"),
        (("{empty}",), "empty"),
        (("{folder}",), "is a directory"),
        (("{image}", "--cpus", "9"), "not in the range"),
        (("{image}", "--cpus", "2", "--irqchip", "user"), "there is one processor"),
        (("{image}", "--cpus", "2", "--deterministic"), "there is one processor"),
        (("{image}", "--irqchip", "split", "--deterministic"), "the timers must be the backend's own"),
        (("{image}", "--initrd", "{image}"), "no use for an initial RAM disk"),
        (("{image}", "--append", "quiet"), "no use for an initial RAM disk or a command line"),
        (("{image}", "--console", "screen"), "is not one of"),
        (("{image}", "--disk", "{empty}"), "at least one"),
        (("{image}", "--disk", "{image}"), "whole 512-byte sectors"),
        (("{image}", *("--disk", "{disk}") * 8), "interrupts for 7 disks, not for 8"),
        (("{image}", "--console", "virtio", *("--disk", "{disk}") * 7), "interrupts for 6 disks, not for 7"),
        (("{image}", "--trace", "{trace}", "--trace-filter", "outt"), "Did you mean out?"),
        (("{kernel}", "--mode", "long"), "leave --load and --mode away"),
        (("{kernel}", "--memory", "1"), "needs more than 1 MiB"),
    ],
)
def test_bad_usage_is_a_sentence_and_exit_code_2(
    arguments: tuple[str, ...], words: str, image: Path, kernel: Path
) -> None:
    image.write_bytes(b"\xf4")
    empty, disk = image.with_name("empty.bin"), image.with_name("disk")
    empty.touch()
    disk.write_bytes(bytes(512))
    names = {"image": image, "empty": empty, "kernel": kernel, "disk": disk, "trace": image.with_name("trace")}
    done = run(*(each.format(**names, folder=image.parent) for each in arguments), accel="soft")
    assert done.returncode == 2, done.stderr.decode()
    assert words in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_kvm_is_not_deterministic(image: Path) -> None:
    image.write_bytes(b"\xf4")
    done = run(image, "--deterministic", accel="kvm")
    assert done.returncode == 2
    assert b"only soft can count time in instructions. Use --accel soft." in done.stderr
    done = run(image, "--deterministic", accel="auto")
    assert (done.returncode, done.stderr) == (0, b"Running on soft: only soft can count time in instructions.\n")


@pytest.mark.parametrize(("accel", "code"), [("kvm", 2), ("auto", 0)])
def test_no_device_is_a_sentence(image: Path, accel: str, code: int) -> None:
    image.write_bytes(b"\xf4")
    program = (
        "import minivmm.kvm.device as device\n"
        "init = device.KvmBackend.__init__\n"
        "device.KvmBackend.__init__ = lambda self: init(self, '/nonexistent/kvm')\n"
        f"import sys; sys.argv = ['minivmm', 'run', {str(image)!r}, '--accel', {accel!r}]\n"
        "from minivmm.cli import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == code
    assert (b"/nonexistent/kvm" if code else b"Running on soft: ") in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("ignored", [False, True])
def test_ctrl_c_ends_it_unless_it_was_started_to_ignore_it(
    image: Path, accel: str, ignored: bool, spawn: Spawn
) -> None:
    """A shell's background job ignores SIGINT, so that Ctrl-C is for what is in the foreground (POSIX, shell language,
    "Signals and Error Handling"). SIGTERM ends it all the same."""
    image.write_bytes(ECHO)
    started = [] if not ignored else ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
    child = spawn([*started, *RUN, image, "--accel", accel], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(b"hello")
    child.stdin.flush()
    assert child.stdout.read(5) == b"hello"
    child.send_signal(signal.SIGINT)
    if ignored:
        child.stdin.write(b"still")
        child.stdin.flush()
        assert child.stdout.read(5) == b"still"
        child.terminate()
    assert child.wait(PATIENCE) == (-signal.SIGTERM if ignored else 130)


def test_who_stops_reading_ends_the_run(image: Path, accel: str, spawn: Spawn) -> None:
    image.write_bytes(bytes.fromhex("baf803 b041 ee ebfd"))  # mov dx, 0x3f8; mov al, 'A'; l: out dx, al; jmp l
    child = spawn([*RUN, image, "--accel", accel], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read(10)
    child.stdout.close()
    assert child.wait(PATIENCE) == 0
