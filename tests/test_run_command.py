"""`minivmm run` as a user meets it: a process with an exit code, standard output, and one sentence when it can't."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from minivmm import guests

pytestmark = pytest.mark.kvm

RUN = (sys.executable, "-c", "from minivmm.cli import main; main()", "run")


def run(*arguments: str | Path, typed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*RUN, *map(str, arguments)], input=typed, capture_output=True, timeout=60, check=False)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "guest.bin"


def test_hello(image: Path) -> None:
    image.write_bytes(guests.load("hello").patched(nonce=0xABCDEF))
    done = run(image)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Hello, 0000000000abcdef\n", b"")


def test_a_program_that_echoes_what_is_piped_in(image: Path) -> None:
    # mov dx, 0x3fd; w: in al, dx; test al, 1; jz w; mov dx, 0x3f8; in al, dx; out dx, al; cmp al, '.'; jne start; hlt
    image.write_bytes(bytes.fromhex("bafd03 ec a801 74fb baf803 ec ee 3c2e 75ef f4"))
    done = run(image, "--timeout", "10", typed=b"one two." * 1)
    assert (done.returncode, done.stdout) == (0, b"one two.")


def test_debug_exit(image: Path) -> None:
    image.write_bytes(bytes.fromhex("b010 e6f4 f4"))
    assert run(image).returncode == 33


def test_time_out(image: Path) -> None:
    image.write_bytes(b"\xeb\xfe")
    done = run(image, "--timeout", "0.2")
    assert done.returncode == 124
    assert done.stderr == b"The guest was still running after 0.2 s, at 0x1000, `jmp 0x1000`.\n"


def test_a_death_is_explained(image: Path) -> None:
    image.write_bytes(b"\x0f\x0b")
    done = run(image, "--mode", "protected", "--load", "0x2000")
    assert done.returncode == 125
    assert b"ud2" in done.stderr
    assert b"Likely cause" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_trace_is_json_lines(image: Path, tmp_path: Path) -> None:
    image.write_bytes(guests.load("hello").patched(nonce=1))
    trace = tmp_path / "trace.jsonl"
    assert run(image, "--trace", trace).returncode == 0
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    assert [line["exit"] for line in lines] == ["KVM_EXIT_IO"] * 24 + ["KVM_EXIT_HLT"]
    assert lines[0]["text"] == "out8 port 0x3f8: 48"
    assert sorted(line["seconds"] for line in lines) == [line["seconds"] for line in lines]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere.bin",), "does not exist"),
        (("{image}", "--memory", "0"), "not in the range"),
        (("{image}", "--load", "ten"), "'ten' is not a number like 4096 or 0x1000"),
        (("{image}", "--load", "-1"), "not a guest-physical address"),
        (("{image}", "--load", "0x7fffffff", "--mode", "long"), "give it more with --memory"),
        (("{image}", "--mode", "sideways"), "is not one of"),
        (("{image}", "--accel", "soft"), "no soft backend"),
        (("{image}", "--trace", "/nowhere/trace"), "No such file or directory"),
        (("{empty}",), "empty"),
        (("{folder}",), "is a directory"),
    ],
)
def test_bad_usage_is_a_sentence_and_exit_code_2(arguments: tuple[str, ...], words: str, image: Path) -> None:
    image.write_bytes(b"\xf4")
    empty = image.with_name("empty.bin")
    empty.touch()
    done = run(*(each.format(image=image, empty=empty, folder=image.parent) for each in arguments))
    assert done.returncode == 2
    assert words in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_no_device_is_a_sentence(image: Path) -> None:
    image.write_bytes(b"\xf4")
    code = (
        "import minivmm.kvm.device as device\n"
        "init = device.KvmBackend.__init__\n"
        "device.KvmBackend.__init__ = lambda self: init(self, '/nonexistent/kvm')\n"
        f"import sys; sys.argv = ['minivmm', 'run', {str(image)!r}]\n"
        "from minivmm.cli import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert b"/nonexistent/kvm" in done.stderr
    assert b"Traceback" not in done.stderr
