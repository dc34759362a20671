"""Builds the reference guests with GNU as and ld: `make guests`, or python guests/build.py [--check] [NAME …].

The images are committed, so that nobody needs binutils to use minivmm. That is only honest if everybody can make the
same bytes again: the layout is fixed by our own linker scripts, and nothing of this machine (path, time, build id) gets
into an image. --check builds into a temporary folder, compares byte for byte and names what differs.

Exit status: 0 built, or all the same; 1 an image differs or a source does not assemble; 2 bad usage or no binutils.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from minivmm import guests, manifest, parameters
from minivmm.manifest import GuestError

HERE = Path(__file__).resolve().parent


class BuildError(Exception):
    """A tool that refused its input, in its own words."""


def build(folder: Path, target: Path) -> Path:
    """Builds the guest in `folder`; the image goes to `target`. Returns the image's path."""
    fields = manifest.read(folder)
    image = target / f"{folder.name}.{manifest.FORMATS[fields['format']]}"
    script = folder / f"{folder.name}.ld"
    with tempfile.TemporaryDirectory() as scratch:
        unlinked = Path(scratch) / "guest.o"
        # One assembler mode for all: .code16 and .code32 choose the encoding, and a guest may change between them.
        run("as", "--64", "--fatal-warnings", "-mx86-used-note=no", f"-I{HERE / 'include'}",
            "-o", unlinked, folder / f"{folder.name}.S")  # fmt: skip
        run("ld", "-m", "elf_x86_64", "-nostdlib", "--strip-all", "--build-id=none", "--fatal-warnings",
            "--no-warn-rwx-segments", "-z", "noexecstack", "-z", "max-page-size=0x1000",
            *(("--oformat", "binary") if fields["format"] != "elf" else ()),
            f"--defsym=LOAD={fields['load']:#x}", f"--defsym=START={fields['entry']:#x}",
            "-T", script if script.exists() else HERE / "flat.ld", "-o", image, unlinked)  # fmt: skip
    image.chmod(0o644)
    parameters.read(image.read_bytes())
    return image


def run(*command: str | Path) -> None:
    """Runs a tool of binutils. Raises BuildError with what it printed."""
    # The C locale keeps the messages the same everywhere; they are shown to people and tested.
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False)
    if done.returncode:
        raise BuildError(done.stderr.strip())


def chosen(names: list[str]) -> list[Path]:
    """The folders of these guests, or of all."""
    known = guests.names() + guests.probes()
    for name in names:
        if name not in known:
            guests.load(name)  # raises, and names the guests that come close
    return [HERE / name for name in names or known]


def differs(folder: Path) -> str:
    """Builds a guest anew and says how it differs from the committed image: "" where it does not."""
    with tempfile.TemporaryDirectory() as scratch:
        built = build(folder, Path(scratch))
        committed = folder / built.name
        if not committed.exists():
            return f"{committed.relative_to(HERE)} is missing"
        new, old = built.read_bytes(), committed.read_bytes()
    if new == old:
        return ""
    if len(new) != len(old):
        return f"{committed.relative_to(HERE)} has {len(old)} bytes; its source gives {len(new)}"
    first = next(offset for offset in range(len(new)) if new[offset] != old[offset])
    return f"{committed.relative_to(HERE)} differs from its source, first at byte {first:#x}"


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="build.py", description="Build the reference guests.")
    parser.add_argument("--check", action="store_true", help="compare with the committed images, change nothing")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a guest (default: all)")
    options = parser.parse_args(arguments)
    for tool in ("as", "ld"):
        if not shutil.which(tool):
            print(f"The guests need GNU {tool}, which is not here. On Debian: apt install binutils.", file=sys.stderr)
            return 2
    wrong = 0
    try:
        folders = chosen(options.names)
    except GuestError as error:
        print(error, file=sys.stderr)
        return 2
    for folder in folders:
        try:
            problem = differs(folder) if options.check else build(folder, folder) and ""
        except (BuildError, ValueError, OSError) as error:  # GuestError and ParameterError are ValueErrors
            problem = f"{folder.relative_to(HERE)}: {error}"
        if problem:
            wrong += 1
            print(problem, file=sys.stderr)
    verb = "the same as" if options.check else "built from"
    print(f"{len(folders) - wrong} of {len(folders)} images {verb} their sources.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
