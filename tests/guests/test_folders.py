"""The guests as files: complete, small, and the manifests say what is true."""

from __future__ import annotations

import re

import pytest

from minivmm import guests, manifest, resources

ALL = guests.names() + guests.probes()


@pytest.mark.parametrize("name", ALL)
def test_folder_is_complete(name):
    guest = guests.load(name)
    folder = name.rpartition("/")[2]
    assert {path.name for path in guest.folder.iterdir()} <= {
        f"{folder}.S", f"{folder}.ld", "guest.toml", f"{folder}.{manifest.FORMATS[guest.format]}",
    }  # fmt: skip
    assert guest.title
    assert guest.shows.endswith(".")
    assert len(guest.image) <= 0xA000  # a real-mode image must end below its stack


@pytest.mark.parametrize("name", ALL)
def test_source_is_short_and_says_where_it_comes_from(name):
    source = guests.load(name).source
    lines = source.splitlines()
    assert len(lines) < 80
    assert max(map(len, lines)) <= 120
    assert lines[0].startswith(f"# {name.rpartition('/')[2]}: ")
    assert "# Source: " in source


@pytest.mark.parametrize("name", ALL)
def test_the_manifest_lists_the_fields_that_the_source_reads(name):
    guest = guests.load(name)
    include = resources.folder("guests") / "include"
    text, todo = "", [guest.source]
    while todo:
        # Comments may mention a field; only code counts.
        code = "\n".join(line.partition("#")[0] for line in todo.pop().splitlines())
        text += code
        todo += [
            (include / f"{file}.inc").read_text()
            for file in re.findall(r'\.include "(\w+)\.inc"', code)
            if file != "params"
        ]
    used = set(re.findall(r"\bthe_([a-z]+)", text))
    assert used == set(guest.parameters)


@pytest.mark.parametrize("name", guests.names())
def test_what_a_guest_needs_is_what_a_probe_asks(name):
    guest = guests.load(name)
    assert guest.needs
    assert {f"probes/{need}" for need in guest.needs} <= set(guests.probes())
    assert guest.mode in guest.needs
    assert guest.labs
    assert "nonce" in guest.parameters
    assert "port" in guest.parameters


def test_there_are_enough_guests_for_each_lab():
    loaded = [guests.load(name) for name in guests.names()]
    for lab in ("00", "01", "02", "03"):
        assert sum(lab in guest.labs for guest in loaded) >= 4
