"""Finding, reading and patching guests, and what is said when that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from minivmm import guests
from minivmm.guests import GuestError

MANIFEST = """
title = "A guest"
mode = "real"
format = "flat"
load = 0x1000
entry = 0x1000
shows = "Nothing."
needs = ["real"]
labs = ["00"]

[parameters]
nonce = "the nonce"
"""
BLOCK = b"mvparams" + bytes(56)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "guest.toml").write_text(MANIFEST)
    (folder / "tiny.bin").write_bytes(b"\xf4" * 16 + BLOCK)
    return folder


def test_load():
    hello = guests.load("hello")
    assert (hello.name, hello.mode, hello.load, hello.entry) == ("hello", "real", 0x1000, 0x1000)
    assert hello.defaults["port"] == 0x3F8
    assert "out dx, al" in hello.source


def test_load_a_probe():
    probe = guests.load("probes/real")
    assert probe.name == "probes/real"
    assert probe.parameters == {}


def test_unknown_guest_names_the_ones_that_come_close():
    with pytest.raises(GuestError, match=r"no guest called 'helo'\. Did you mean .*hello"):
        guests.load("helo")
    with pytest.raises(GuestError, match=r"guests\.names\(\) lists them all"):
        guests.load("zzzzzz")


@pytest.mark.parametrize("name", ["../guests/hello", "/etc/passwd", "", "include", "probes", "hello/"])
def test_a_name_is_no_path(name):
    with pytest.raises(GuestError):
        guests.load(name)


def test_patched():
    hello = guests.load("hello")
    image = hello.patched(nonce=0x1122_3344_5566_7788, port=0x500)
    assert len(image) == len(hello.image)
    at = image.index(b"mvparams")
    assert image[at + 8 : at + 18] == bytes.fromhex("8877665544332211 0005")
    assert image[:at] == hello.image[:at]
    assert hello.defaults["nonce"] == 0  # the guest itself is as it was


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prot": 1}, "hello takes no parameter 'prot'; it takes nonce, port. Did you mean port?"),
        ({"size": 1}, "hello takes no parameter 'size'"),
        ({"port": 0x10000}, "hello: port must be a whole number from 0 to 0xffff, not 65536"),
        ({"port": -1}, "not -1"),
        ({"nonce": 1 << 64}, "from 0 to 0xffffffffffffffff"),
        ({"nonce": 1.5}, "whole number"),
        ({"nonce": "1"}, "whole number"),
        ({"nonce": True}, "whole number"),
    ],
)
def test_patched_refuses(values, said):
    with pytest.raises(GuestError) as raised:
        guests.load("hello").patched(**values)
    assert said in str(raised.value)


def test_read_a_folder(folder):
    assert guests.read(folder).image.startswith(b"\xf4")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "A guest"\n', "", "it lacks title"),
        ('mode = "real"', 'mode = "unreal"', "mode is 'unreal', not one of real, protected, long"),
        ('format = "flat"', 'format = "pe"', "format is 'pe'"),
        ("load = 0x1000", 'load = "0x1000"', "load is '0x1000', not an address"),
        ("load = 0x1000", "load = -1", "load is -1, not an address"),
        ("entry = 0x1000", "entry = true", "entry is True, not an address"),
        ("needs", "wants", "it lacks needs"),
        ("shows", 'color = "red"\nshows', "it has color, which means nothing"),
        ("nonce = ", "once = ", "the parameter block has no once"),
        ('labs = ["00"]', "labs = [0]", "labs is [0], not a list of texts"),
        ('nonce = "the nonce"', "nonce = 3", "parameters must be names with their meaning"),
        ('[parameters]\nnonce = "the nonce"', "", ""),
        ("title", "title title", "can't be read"),
    ],
)
def test_broken_manifest(folder, old, new, said):
    (folder / "guest.toml").write_text(MANIFEST.replace(old, new))
    if not said:
        assert guests.read(folder).parameters == {}
        return
    with pytest.raises(GuestError) as raised:
        guests.read(folder)
    assert said in str(raised.value)


def test_parameters_that_are_no_table(folder):
    text = MANIFEST[: MANIFEST.index("[parameters]")]
    (folder / "guest.toml").write_text("parameters = 3\n" + text)
    with pytest.raises(GuestError, match="parameters must be names with their meaning"):
        guests.read(folder)


def test_no_manifest(tmp_path):
    with pytest.raises(GuestError, match=r"guest\.toml can't be read"):
        guests.read(tmp_path)


def test_no_image(folder):
    (folder / "tiny.bin").unlink()
    with pytest.raises(GuestError, match=r"has no image tiny\.bin; `make guests` builds it"):
        guests.read(folder)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (b"\xf4", "it has no parameter block"),
        (BLOCK + BLOCK, "it has 2 parameter blocks"),
        (BLOCK[:40], "cut off"),
        (b"\xf4" + BLOCK, "not aligned"),
    ],
)
def test_image_without_a_usable_block(folder, image, said):
    (folder / "tiny.bin").write_bytes(image)
    with pytest.raises(GuestError, match=said):
        guests.read(folder)
