"""Nonces: the same for the same seed, independent of each other, inside their range."""

from __future__ import annotations

import pytest

from autograder.nonces import Nonces


def test_known_values_hold_for_ever() -> None:
    """A seed in an old report must still replay it; these numbers may never change."""
    nonces = Nonces(1, "01", "01.4")
    assert nonces.u64("nonce") == 0xF3C0966B74695359
    assert nonces.bytes("text", 40)[:4].hex() == "151b0e17"


def test_seed_lab_check_run_and_label_all_count() -> None:
    variants = [
        Nonces(1, "01", "01.4").u64("a"),
        Nonces(2, "01", "01.4").u64("a"),
        Nonces(1, "02", "01.4").u64("a"),
        Nonces(1, "01", "01.5").u64("a"),
        Nonces(1, "01", "01.4", 1).u64("a"),
        Nonces(1, "01", "01.4").u64("b"),
    ]
    assert len(set(variants)) == len(variants)


def test_ranges_and_choices_stay_inside() -> None:
    nonces = Nonces(3, "01", "01.1")
    drawn = {nonces.range(str(n), 5, 9) for n in range(200)}
    assert drawn == {5, 6, 7, 8}
    assert {nonces.choice(str(n), "ab") for n in range(50)} == {"a", "b"}
    assert len(nonces.bytes("long", 1000)) == 1000


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(ValueError, match="no number lies from 4 up to 4"):
        Nonces(1, "01", "01.1").range("n", 4, 4)
