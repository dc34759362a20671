"""guest.toml: what a reference guest is, where it goes, and which parameters it takes. Read, and checked in full."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from minivmm import parameters

MODES = ("real", "protected", "long")
FORMATS = {"flat": "bin", "elf": "elf", "multiboot": "bin"}  # and the ending of the image's name

# Every key but [parameters], which may be left out: its type, and the type in words.
KEYS = {
    "title": (str, "a text"),
    "mode": (str, f"one of {', '.join(MODES)}"),
    "format": (str, f"one of {', '.join(FORMATS)}"),
    "load": (int, "an address"),
    "entry": (int, "an address"),
    "shows": (str, "a text"),
    "needs": (list, "a list of texts"),
    "labs": (list, "a list of texts"),
}


class GuestError(ValueError):
    """No such guest, or one whose folder is broken, or a parameter that it does not take."""


def read(folder: Path) -> dict[str, Any]:
    """What guest.toml in `folder` says, key by key. Raises GuestError, naming the file and what is wrong with it."""
    file = folder / "guest.toml"
    try:
        manifest = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise GuestError(f"The manifest {file} can't be read: {error}") from None
    takes = manifest.pop("parameters", {})
    if wrong := _wrong_keys(manifest) or _wrong_values(manifest) or _wrong_parameters(takes):
        raise GuestError(f"The manifest {file} is wrong: {wrong}.")
    return {**manifest, "needs": tuple(manifest["needs"]), "labs": tuple(manifest["labs"]), "parameters": takes}


def _wrong_keys(manifest: dict[str, Any]) -> str:
    if missing := sorted(KEYS.keys() - manifest.keys()):
        return f"it lacks {', '.join(missing)}"
    if unknown := sorted(manifest.keys() - KEYS.keys()):
        return f"it has {', '.join(unknown)}, which means nothing"
    return ""


def _wrong_values(manifest: dict[str, Any]) -> str:
    for key, (kind, words) in KEYS.items():
        value = manifest[key]
        fits = type(value) is kind  # and not isinstance: TOML's true is no address
        if kind is list:
            fits = fits and all(type(item) is str for item in value)
        elif kind is int:
            fits = fits and value >= 0
        elif key in ("mode", "format"):
            fits = value in (MODES if key == "mode" else tuple(FORMATS))
        if not fits:
            return f"{key} is {value!r}, not {words}"
    return ""


def _wrong_parameters(takes: Any) -> str:
    if not isinstance(takes, dict) or not all(isinstance(meaning, str) for meaning in takes.values()):
        return "parameters must be names with their meaning"
    if unknown := sorted(takes.keys() - parameters.FIELDS.keys()):
        return f"the parameter block has no {', '.join(unknown)}"
    return ""
