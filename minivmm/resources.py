"""Where guests, labs and solutions lie: beside the package in a checkout, inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
KINDS = ("guests", "labs", "solutions")


class ResourceError(FileNotFoundError):
    """A folder that minivmm ships is not there."""


def in_checkout(package: Path = PACKAGE) -> bool:
    """Whether the package lies in a checkout. A wheel takes pyproject.toml nowhere, so that file tells them apart."""
    return (package.parent / "pyproject.toml").is_file()


def folder(kind: str, package: Path = PACKAGE) -> Path:
    """The folder "guests", "labs" or "solutions". Raises ResourceError where it is missing.

    A checkout's own folder wins over packaged copies, which may be left over from an earlier build.
    """
    if kind not in KINDS:
        raise ValueError(f"minivmm ships {', '.join(KINDS)}; it has no folder {kind!r}.")
    found = package.parent / kind if in_checkout(package) else package / "_data" / kind
    if not found.is_dir():
        remedy = "Check the repository out again" if in_checkout(package) else "Install minivmm again"
        raise ResourceError(f"The folder {found} is missing from this copy of minivmm. {remedy}.")
    return found
