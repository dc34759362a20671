"""The models by themselves: no device, no guest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograder.stages import models
from minivmm import guests
from minivmm.guests import GuestError

HOST: dict[str, dict[str, Any]] = {
    "segment-base": {"values": [0] * 4},
    "segment-load": {"values": [0] * 4},
    "cpuid-reader": {"leaves": [(0, 0, 0, 0)]},
}


def test_every_guest_has_a_model_and_every_model_a_guest():
    assert sorted(models.all_models()) == guests.names()


@pytest.mark.parametrize("name", guests.names())
@pytest.mark.parametrize("shift", [0, 32])
def test_both_halves_of_the_nonce_change_what_is_printed(name, shift):
    # Even the guests that print a single byte must not repeat it much: 32 nonces, 8 different outputs at the least.
    nonces = [(i * 0x9E37_79B9 & 0xFFFF_FFFF) << shift for i in range(32)]
    printed = {models.expected_console(name, {"nonce": nonce}, **HOST.get(name, {})) for nonce in nonces}
    assert len(printed) >= 8


def test_unknown_parameters_are_refused():
    with pytest.raises(GuestError, match="takes no parameter 'size'"):
        models.expected_console("hello", {"size": 1})


@given(st.integers(0, (1 << 64) - 1))
def test_the_stream_is_a_congruential_generator(nonce):
    stream = models.Stream(nonce)
    first, second = stream.next(), stream.next()
    assert first == ((nonce & 0xFFFF_FFFF) * 1664525 + (nonce >> 32 | 1)) % 2**32
    assert second == (first * 1664525 + (nonce >> 32 | 1)) % 2**32


@given(st.integers(0, (1 << 64) - 1), st.binary(min_size=1, max_size=64), st.data())
def test_a_changed_byte_changes_the_checksum(nonce, data, draw):
    at = draw.draw(st.integers(0, len(data) - 1))
    changed = bytearray(data)
    changed[at] ^= draw.draw(st.integers(1, 255))
    assert models.checksum(nonce, data) != models.checksum(nonce, bytes(changed))


@given(st.integers(0, (1 << 64) - 1), st.integers(1, 64), st.integers(0, 50))
def test_page_toucher_stays_in_its_region(nonce, pages, count):
    writes = models.page_toucher_writes(nonce, 0x10_0000, pages << 12, count)
    assert len(writes) == count
    assert all(0x10_0000 <= address <= 0x10_0000 + (pages << 12) - 4 and address % 4 == 0 for address, _ in writes)
