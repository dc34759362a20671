"""The build: the committed images are what their sources give, anywhere; and the tool says what is wrong."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from minivmm import guests, resources

GUESTS = resources.folder("guests")

needs_binutils = pytest.mark.skipif(
    not (shutil.which("as") and shutil.which("ld")) and "MINIVMM_NO_SKIP" not in os.environ,
    reason="GNU as and ld are not here: apt install binutils",
)


def tool(at: Path) -> ModuleType:
    """guests/build.py, which is no part of a package, from the folder `at`."""
    spec = importlib.util.spec_from_file_location("guests_build", at / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of guests/ in another place, and the tool in it."""
    return Path(shutil.copytree(GUESTS, tmp_path / "elsewhere" / "guests"))


@needs_binutils
def test_committed_images_are_what_their_sources_give():
    done = subprocess.run([sys.executable, GUESTS / "build.py", "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@needs_binutils
@pytest.mark.parametrize("name", ["hello", "elf-segments", "mode-walk", "probes/ring3"])
def test_the_same_bytes_in_another_place(copy, tmp_path, name):
    image = tool(copy).build(copy / name, tmp_path)
    assert image.read_bytes() == guests.load(name).image


@needs_binutils
def test_check_names_what_differs(copy, capsys):
    build = tool(copy)
    image = copy / "hello" / "hello.bin"
    changed = bytearray(image.read_bytes())
    changed[5] ^= 1
    image.write_bytes(changed)
    assert build.main(["--check", "hello"]) == 1
    assert "hello/hello.bin differs from its source, first at byte 0x5" in capsys.readouterr().err
    assert image.read_bytes() == changed  # --check changes nothing

    image.write_bytes(changed + b"\0")
    assert build.main(["--check", "hello"]) == 1
    assert "its source gives" in capsys.readouterr().err

    image.unlink()
    assert build.main(["--check", "hello"]) == 1
    assert "hello/hello.bin is missing" in capsys.readouterr().err

    assert build.main(["hello"]) == 0
    assert image.read_bytes() == guests.load("hello").image


@needs_binutils
@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("hello.S", "    hlt", "    halt", "no such instruction: `halt"),
        ("hello.S", "    hlt", "    .bss\n    .skip 4\n    .text\n    hlt", "a flat guest has no bss"),
        ("guest.toml", "entry = 0x1000", "entry = 0x1002", "entry in guest.toml is not the address of _start"),
        ("guest.toml", 'mode = "real"', 'mode = "fast"', "mode is 'fast'"),
        ("hello.S", "\nPARAMETERS", "\nPARAMETERS\n.ascii \"mvparams\"", "parameter blocks"),
    ],
)  # fmt: skip
def test_a_broken_guest_is_named(copy, capsys, file, old, new, said):
    path = copy / "hello" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert tool(copy).main(["--check", "hello"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("hello: ")
    assert said in error


def test_without_binutils(copy, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert tool(copy).main([]) == 2
    assert "The guests need GNU as, which is not here" in capsys.readouterr().err


@needs_binutils
def test_unknown_guest(copy, capsys):
    assert tool(copy).main(["helo"]) == 2
    assert "Did you mean" in capsys.readouterr().err
