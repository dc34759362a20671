"""The parameter block: what is written is read back, and nothing else changes."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from minivmm import parameters

VALUES = st.fixed_dictionaries(
    {},
    optional={
        name: st.integers(0, (1 << 8 * struct.calcsize(form)) - 1) for name, (_, form) in parameters.FIELDS.items()
    },
)


@given(VALUES, st.integers(0, 8), st.binary(max_size=40))
def test_round_trip(values, lead, tail):
    image = b"\x90" * (16 * lead) + parameters.MAGIC + bytes(56) + tail.replace(b"m", b"n")
    patched = parameters.write(image, values)
    assert parameters.read(patched) == dict.fromkeys(parameters.FIELDS, 0) | values
    assert patched[: 16 * lead + 8] == image[: 16 * lead + 8]
    assert patched[16 * lead + 56 :] == image[16 * lead + 56 :]


@given(VALUES)
def test_a_block_patched_twice_is_still_found(values):
    image = parameters.MAGIC + bytes(56)
    twice = parameters.write(parameters.write(image, values), values)
    assert twice == parameters.write(image, values)
