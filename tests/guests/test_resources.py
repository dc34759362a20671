"""Where the shipped folders are found: in a checkout, and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from minivmm import resources
from minivmm.resources import ResourceError


def test_in_this_checkout():
    assert (resources.folder("guests") / "hello" / "guest.toml").is_file()


def test_in_a_wheel(tmp_path):
    package = tmp_path / "site-packages" / "minivmm"
    (package / "_data" / "guests").mkdir(parents=True)
    assert resources.folder("guests", package) == package / "_data" / "guests"


def test_a_checkout_wins_over_packaged_copies(tmp_path):
    package = tmp_path / "minivmm"
    (package / "_data" / "labs").mkdir(parents=True)
    (tmp_path / "labs").mkdir()
    (tmp_path / "pyproject.toml").touch()
    assert resources.folder("labs", package) == tmp_path / "labs"


@pytest.mark.parametrize(
    ("checkout", "remedy"), [(True, "Check the repository out again"), (False, "Install minivmm again")]
)
def test_missing(tmp_path: Path, checkout, remedy):
    package = tmp_path / "minivmm"
    package.mkdir()
    if checkout:
        (tmp_path / "pyproject.toml").touch()
    with pytest.raises(ResourceError, match=remedy):
        resources.folder("solutions", package)


def test_unknown_kind():
    with pytest.raises(ValueError, match="guests, labs, solutions"):
        resources.folder("secrets")
