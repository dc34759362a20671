"""A small Linux userland for a guest: busybox, a shell, and the modules that virtio needs, as an initial RAM disk.

    python tools/initramfs.py OUT [--kernel FILE] [--run FILE]

The modules are those of the kernel FILE (/lib/modules/…, the newest of Debian's cloud kernels where none is named); a
kernel without any gets none. What is in --run is executed before the shell. Needs Debian's busybox-static and a kernel.

Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst, "newc" format; kmod's modules.dep(5).
"""

from __future__ import annotations

import argparse
import re
import shutil
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGES = "busybox-static linux-image-cloud-amd64"
MODULES = ("virtio_mmio", "virtio_blk", "virtio-rng", "virtio_console")
VERSION_POINTER, SETUP_BASE = 0x20E, 0x200  # boot.rst, "kernel_version": relative to 0x200
FOLDERS = ("bin", "dev", "proc", "sys", "tmp", "lib")
INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ PS1='minivmm# '
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in $(cat /lib/order 2>/dev/null); do insmod /lib/$module; done
# The console may be a virtio one, and not have been there when we were started with it.
if (: <> /dev/console) 2> /dev/null; then exec <> /dev/console >&0 2>&0; fi
/bin/up  # tells minivmm's boot timer
[ -x /run-first ] && /run-first
echo "Linux $(uname -r). Type “poweroff -f” or Ctrl-A x to leave."
cd /
setsid cttyhack sh
poweroff -f
"""

# iopl(3); out 0x87b, 123; exit(0). From a shell it would be a write to /dev/port, which Debian's cloud kernel hasn't.
UP = bytes.fromhex("b8ac000000 bf03000000 0f05 66ba7b08 b07b ee b83c000000 31ff 0f05")
UP_ADDRESS = 0x400000


class InitramfsError(Exception):
    """It can't be made here; the text says what to do."""


def cpio(files: Iterator[tuple[str, int, bytes]]) -> bytes:
    """The archive of (name, mode, content)."""
    out = bytearray()
    for number, (name, mode, content) in enumerate([*files, ("TRAILER!!!", 0, b"")], 1):
        path = name.encode() + b"\0"
        # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + path
        out += bytes(-len(out) % 4)
        out += content
        out += bytes(-len(out) % 4)
    return bytes(out)


def program(code: bytes) -> bytes:
    """The smallest ELF executable around `code` (System V gABI, chapters 4 and 5)."""
    headers = 64 + 56
    size = headers + len(code)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\2\1\1", 2, 62, 1, UP_ADDRESS + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, UP_ADDRESS, UP_ADDRESS, size, size, 0x1000)
    return header + load + code


def newest_kernel(boot: Path = Path("/boot")) -> Path:
    """Debian's newest cloud kernel: the smaller of the two. Raises InitramfsError where there is none."""
    found = boot.glob("vmlinuz-*-cloud-amd64")
    newest = max(found, key=lambda file: [int(number) for number in re.findall(r"\d+", file.name)], default=None)
    if newest is None:
        raise InitramfsError(f"There is no kernel in {boot}: apt install {PACKAGES}")
    return newest


def version_of(kernel: Path) -> str:
    """The version that a bzImage tells, as in /lib/modules."""
    head = kernel.read_bytes()[:0x10000]
    (pointer,) = struct.unpack_from("<H", head, VERSION_POINTER)
    return head[pointer + SETUP_BASE :].split(b"\0", 1)[0].split(b" ", 1)[0].decode(errors="replace")


def modules(version: str, names: tuple[str, ...] = MODULES, root: Path = Path("/lib/modules")) -> list[Path]:
    """The modules `names` with all that they depend on, in the order to load them."""
    index = root / version / "modules.dep"
    if not index.exists():
        return []
    needs: dict[str, list[str]] = {}
    for line in index.read_text().splitlines():
        module, _, others = line.partition(":")
        needs[module] = others.split()
    order: dict[Path, None] = {}
    for name in names:
        for module in (each for each in needs if Path(each).name == f"{name}.ko"):
            for each in (*reversed(needs[module]), module):
                order.setdefault(root / version / each)
    return list(order)


def busybox() -> bytes:
    """A busybox that needs no library. Raises InitramfsError where there is none."""
    found = shutil.which("busybox")
    if found is None or b"/lib64/ld-linux" in Path(found).read_bytes():
        raise InitramfsError(f"The guest's shell is a static busybox, which is not here: apt install {PACKAGES}")
    return Path(found).read_bytes()


def build(kernel: Path, run: str = "") -> bytes:
    """The initial RAM disk for `kernel`. `run` is a shell script that is executed before the shell starts."""

    def files() -> Iterator[tuple[str, int, bytes]]:
        for folder in FOLDERS:
            yield folder, 0o040755, b""
        yield "bin/busybox", 0o100755, busybox()
        yield "bin/sh", 0o120777, b"busybox"
        yield "bin/up", 0o100755, program(UP)
        yield "init", 0o100755, INIT.encode()
        if run:
            yield "run-first", 0o100755, b"#!/bin/sh\n" + run.encode()
        found = modules(version_of(kernel))
        for module in found:
            yield f"lib/{module.name}", 0o100644, module.read_bytes()
        yield "lib/order", 0o100644, "\n".join(module.name for module in found).encode()

    return cpio(files())


def main() -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="initramfs.py", description="Make an initial RAM disk with a shell.")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--kernel", type=Path, metavar="FILE", help="whose modules (the newest cloud kernel's)")
    parser.add_argument("--run", type=Path, metavar="FILE", help="a script to run before the shell")
    options = parser.parse_args()
    try:
        kernel = options.kernel or newest_kernel()
        options.out.write_bytes(build(kernel, options.run.read_text() if options.run else ""))
    except (InitramfsError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.out}, for {kernel}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
