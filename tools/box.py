"""The box: a Linux machine with an upstream KVM of its own, wherever there is none, for tests.

    python tools/box.py [OPTIONS] -- COMMAND …              (--help lists them)
    python tools/box.py --terminal -- COMMAND …

QEMU emulates a processor with AMD-V in software (TCG), Debian's kernel runs on it with its own kvm-amd, and virtme-ng
gives that kernel this machine's file system. So the command finds the project and its .venv where they are here. What
it writes in the present folder, in /tmp and the like is forgotten with the box; what should stay goes to a --rwdir.
Environment variables that begin with MINIVMM_ go along; MINIVMM_BOX=1 says where one is. Nothing here needs /dev/kvm.
With --terminal the command has this terminal to itself (tools/box_terminal.py), for as long as it likes.

Exit status: the command's own; 2 the box can't be built here; 124 time-out; 125 the box died before the command ended;
130 somebody left it by Ctrl-].
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import box_terminal

PACKAGES = "qemu-system-x86 linux-image-amd64 busybox-static kmod udev"
CANNOT, TIMED_OUT, DIED, LEFT = 2, 124, 125, 130
TAIL = 25  # lines of the console that are shown when the box fails

# What udev would load for QEMU's board though no test needs it: without it the box is up seconds earlier.
UNWANTED = "ahci,lpc_ich,i2c_i801,iTCO_wdt,i6300esb,sr_mod,pcspkr,psmouse,powernow_k8,aesni_intel,ghash_clmulni_intel"

# The root file system that virtme-ng mounts asks the host at every look at a file, and Python looks at thousands. A
# second mount of the same that trusts its cache (nobody changes files meanwhile) makes imports several times faster.
MOUNTS = """\
nine() { mkdir -p "$2" && mount -t 9p -o version=9p2000.L,trans=virtio,msize=512000,"$3" "$1" "$2"; }
nine fast /run/fast ro,cache=loose
"""
BIND = "mount --bind /run/fast{folder} {folder}\n"
CHANGEABLE = """\
mkdir -p /run/upper /run/work
mount -t overlay -o lowerdir=/run/fast{folder},upperdir=/run/upper,workdir=/run/work overlay {folder}
"""
COMMAND = """\
export HOME=/tmp/home TMPDIR=/tmp MINIVMM_BOX=1 PYTHONDONTWRITEBYTECODE=1 {environment}
mkdir -p $HOME
modprobe kvm-amd && cd {folder} && {command}
echo $? > {scratch}/status.new
mv {scratch}/status.new {scratch}/status
"""


class BoxError(Exception):
    """The box can't be built on this machine; the text says what to do."""


@dataclass
class Box:
    """What a box is made of. `folder` is where the command runs; `rwdirs` are the folders whose changes stay."""

    memory: str = "2G"
    cpus: int = 2
    kernel: Path | None = None
    folder: Path = field(default_factory=Path.cwd)
    rwdirs: Sequence[Path] = ()
    terminal: bool = False

    def run(self, command: Sequence[str], timeout: float = 600) -> int:
        """Runs `command` in a new box, its output on ours. `timeout` is in seconds, boot included.

        Returns the exit status, as the module's head says. Raises BoxError where the box can't be built here.
        """
        # In /tmp, because the guest finds it there: it hides other places for temporary files.
        with tempfile.TemporaryDirectory(prefix="box-", dir="/tmp") as name:
            scratch = Path(name)
            start = self.command_line(scratch)
            (scratch / "script").write_text(self.script(command, scratch))
            (scratch / "output").touch()
            with (scratch / "console").open("wb") as console:
                box = subprocess.Popen(
                    start,
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=console,
                    env={**os.environ, "PATH": search_path()},
                    start_new_session=True,  # it has children, and all must go together
                )
                deadline = time.monotonic() + timeout
                try:
                    if self.terminal:
                        in_time = box_terminal.join(box, scratch / "tty", deadline)
                    else:
                        in_time = follow(box, scratch / "output", deadline)
                except box_terminal.Left:
                    return LEFT
                finally:
                    end(box)
            return status_of(scratch, in_time, timeout)

    def command_line(self, scratch: Path) -> list[str]:
        """The call of virtme-ng. Raises BoxError where a part of the box is missing."""
        kernel = self.kernel or newest_kernel()
        need(kernel)
        shares = [share("/", "fast", ",readonly=on")]
        shares += [share(folder, f"rw{number}") for number, folder in enumerate(self.rwdirs)]
        port = [box_terminal.qemu_option(scratch / "tty")] if self.terminal else []
        return [
            *("vng", "--run", str(kernel), "--user", "root", "--memory", self.memory, "--cpus", str(self.cpus)),
            *("--disable-kvm", "--disable-microvm", "--force-9p", f"--rwdir={scratch}"),
            "-v",  # without it the script's channel wants virtio_console, which is a module in Debian's kernel
            *("--append", f"modprobe.blacklist={UNWANTED} mitigations=off"),
            f"--qemu-opts={' '.join(['-cpu max', *shares, *port])}",
            *("--", f"sh {scratch}/script"),  # a file, for the kernel's command line is short
        ]

    def script(self, command: Sequence[str], scratch: Path) -> str:
        """What runs inside: fast mounts, the module, the command, its status into a file."""
        quoted = shlex.join(command)
        run = box_terminal.script(shlex.quote(quoted)) if self.terminal else f"{quoted} > {scratch}/output 2>&1"
        ours = [f"{key}={value}" for key, value in os.environ.items() if key.startswith("MINIVMM_")]
        # Python's own library where it is not in /usr (pyenv, uv), and the .venv where it is not in the folder.
        python = {Path(sys.base_prefix), Path(sys.prefix)}
        elsewhere = [
            path for path in python if not path.is_relative_to("/usr") and not path.is_relative_to(self.folder)
        ]
        return (
            MOUNTS
            + "".join(BIND.format(folder=path) for path in (Path("/usr"), *elsewhere))
            + CHANGEABLE.format(folder=self.folder)
            + "".join(f"nine rw{number} {folder} rw\n" for number, folder in enumerate(self.rwdirs))
            + COMMAND.format(environment=shlex.join(ours), folder=self.folder, command=run, scratch=scratch)
        )


def search_path() -> str:
    """PATH with this Python's programs first, where vng is, and the administrator's last, where modprobe is."""
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def share(folder: Path | str, tag: str, options: str = "") -> str:
    """QEMU's option that offers a folder to the guest over 9p. Raises BoxError for a name that it would cut up."""
    if not re.fullmatch(r"[\w./+@%-]+", str(folder)):
        raise BoxError(f"QEMU can't take the path {folder}: use one without spaces and commas.")
    return f"-virtfs local,path={folder},mount_tag={tag},security_model=none,multidevs=remap{options}"


def need(kernel: Path) -> None:
    """Raises BoxError where a part of the box is missing."""
    if not shutil.which("vng", path=search_path()):
        raise BoxError("The box needs virtme-ng, which is not here: make .venv/.test, or pip install virtme-ng")
    for tool in ("qemu-system-x86_64", "busybox", "modprobe"):
        if not shutil.which(tool, path=search_path()):
            raise BoxError(f"The box needs {tool}, which is not here: apt install {PACKAGES}")
    if not os.access(kernel, os.R_OK):
        raise BoxError(f"You may not read {kernel}, or it isn't there: chmod a+r it, or name another with --kernel.")


def newest_kernel(boot: Path = Path("/boot"), modules: Path = Path("/lib/modules")) -> Path:
    """Debian's newest general kernel. The cloud kernel won't do: it has no 9p. Raises BoxError where there is none."""
    names = [file.name.removeprefix("vmlinuz-") for file in boot.glob("vmlinuz-*-amd64") if "-cloud-" not in file.name]
    usable = [name for name in names if (modules / name).is_dir()]
    if not usable:
        raise BoxError(f"There is no kernel for the box in {boot}: apt install {PACKAGES}")
    newest = max(usable, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    return boot / f"vmlinuz-{newest}"


def follow(box: subprocess.Popen[bytes], output: Path, deadline: float) -> bool:
    """Copies the command's output to ours as it comes, until the box is off. False where the deadline comes first."""
    with output.open("rb") as stream:
        while True:
            off, late = box.poll() is not None, time.monotonic() > deadline
            while block := stream.read(1 << 16):
                sys.stdout.buffer.write(block)
                sys.stdout.buffer.flush()
            if off or late:
                return off
            time.sleep(0.1)


def end(box: subprocess.Popen[bytes]) -> None:
    """Takes the box and its helpers away, whatever their state."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(box.pid, signal.SIGKILL)
    box.wait()


def status_of(scratch: Path, in_time: bool, timeout: float) -> int:
    """The command's exit status, from the file it left: the status of virtme-ng itself says little."""
    left = scratch / "status"
    if left.exists():
        return int(left.read_text())
    lines = (scratch / "console").read_text(errors="replace").splitlines()[-TAIL:]
    why = "ended before the command did" if in_time else f"had not finished after {timeout:g} s"
    print(f"The box {why}. The end of its console:", *lines, sep="\n  ", file=sys.stderr)
    return DIED if in_time else TIMED_OUT


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="box.py", description="Run a command under an upstream KVM inside QEMU.")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds, boot included (600; --terminal: none)")
    parser.add_argument("--attempts", type=int, default=1, metavar="N", help="boxes, as long as they die or hang (1)")
    parser.add_argument("--memory", default="2G", metavar="SIZE", help="memory of the box (2G)")
    parser.add_argument("--cpus", type=int, default=2, metavar="N", help="processors of the box (2)")
    parser.add_argument("--kernel", type=Path, metavar="FILE", help="another kernel than the newest of Debian's here")
    parser.add_argument("--rwdir", type=Path, action="append", default=[], metavar="DIR", help="changes here stay")
    parser.add_argument("--terminal", action="store_true", help="give the command this terminal")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    options = parser.parse_args(arguments)
    for folder in options.rwdir:
        if not folder.is_dir():
            parser.error(f"--rwdir {folder}: there is no such folder")
    if options.attempts < 1:
        parser.error("--attempts: one at least")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the box goes too
    rwdirs = [folder.resolve() for folder in options.rwdir]
    box = Box(options.memory, options.cpus, options.kernel, rwdirs=rwdirs, terminal=options.terminal)
    timeout = options.timeout or (math.inf if options.terminal else 600)
    try:
        # QEMU's emulation of AMD-V hangs or ends now and then, whatever runs in it. A failed command is not repeated.
        for attempt in range(1, options.attempts + 1):
            status = box.run(options.command, timeout)
            if status not in (DIED, TIMED_OUT) or attempt == options.attempts:
                break
            print("Once more, in a new box.", file=sys.stderr)
        return status
    except BoxError as error:
        print(error, file=sys.stderr)
        return CANNOT


if __name__ == "__main__":
    sys.exit(main())
