"""Our structures, request numbers and constants against the host's own <linux/kvm.h>, where there is one.

The header may be older or newer than we are: a name that it doesn't know is passed over, and the test says how many it
compared, so that it can't pass by comparing nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from minivmm.kvm import constants, ffi, ioctls
from minivmm.kvm.build_ffi import STRUCTS

HEADER = Path("/usr/include/linux/kvm.h")
COMPILER = shutil.which("cc") or shutil.which("gcc")

# What newer kernels added inside a union or renamed; <linux/kvm.h> of an older kernel lacks or spells it differently.
NOT_IN_EVERY_HEADER = {("kvm_run", "tdx"), ("kvm_run", "memory_fault")}


def compiled_answers(lines: list[str], folder: Path) -> dict[str, int]:
    """Compiles and runs a program that prints `name value` for each of `lines` (C expressions by name)."""
    source = folder / "ask.c"
    body = "\n".join(lines)
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n#include <linux/kvm.h>\n"
        f"int main(void) {{\n{body}\nreturn 0;\n}}\n"
    )
    assert COMPILER
    page = "-DPAGE_SIZE=4096"  # the header counts on one, and leaves it to the C library, which has none
    subprocess.run([COMPILER, page, "-o", folder / "ask", source], check=True, capture_output=True, text=True)
    out = subprocess.run([folder / "ask"], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.rsplit(" ", 1) for line in out.splitlines())}


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    if COMPILER is None or not HEADER.exists():
        if "MINIVMM_NO_SKIP" in os.environ:
            pytest.fail("a C compiler and <linux/kvm.h> are needed here")
        pytest.skip("no C compiler or no <linux/kvm.h> on this machine")


def offsets_of(name: str) -> list[tuple[str, int]]:
    return [(field, info.offset) for field, info in ffi.typeof(f"struct {name}").fields if field]


def test_sizes_and_offsets(tmp_path: Path) -> None:
    header = HEADER.read_text() + Path("/usr/include/x86_64-linux-gnu/asm/kvm.h").read_text()
    names = [name for name in re.findall(r"^struct (\w+) \{", STRUCTS, re.M) if f"struct {name} {{" in header]
    assert len(names) > 45
    lines, ours = [], {}
    for name in names:
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
        ours[name] = ffi.sizeof(f"struct {name}")
        for field, offset in offsets_of(name):
            if (name, field) in NOT_IN_EVERY_HEADER and f"}} {field};" not in header:
                continue
            lines.append(f'printf("{name}.{field} %zu\\n", offsetof(struct {name}, {field}));')
            ours[f"{name}.{field}"] = offset
    theirs = compiled_answers(lines, tmp_path)
    assert theirs == ours
    assert len(theirs) > 300


def test_inside_the_union_of_kvm_run(tmp_path: Path) -> None:
    places = [
        "io.data_offset", "io.count", "io.port", "io.size", "mmio.phys_addr", "mmio.data", "mmio.len", "mmio.is_write",
        "internal.suberror", "internal.ndata", "internal.data", "fail_entry.cpu", "msr.index", "msr.data", "msr.reason",
        "hypercall.args", "hypercall.ret", "debug.arch.pc", "debug.arch.dr6", "system_event.type", "eoi.vector",
        "s.regs.regs.rip", "s.regs.sregs.cr0", "s.regs.events", "emulation_failure.insn_size", "tpr_access.is_write",
    ]  # fmt: skip
    theirs = compiled_answers([f'printf("{p} %zu\\n", offsetof(struct kvm_run, {p}));' for p in places], tmp_path)
    assert theirs == {place: ffi.offsetof("struct kvm_run", *place.split(".")) for place in places}


@pytest.mark.parametrize("module", [ioctls, constants], ids=["ioctls", "constants"])
def test_numbers(module: object, tmp_path: Path) -> None:
    ours = {name: value for name, value in vars(module).items() if name.startswith("KVM_") and isinstance(value, int)}
    lines = [f'#ifdef {name}\nprintf("{name} %llu\\n", (unsigned long long)({name}));\n#endif' for name in ours]
    theirs = compiled_answers(lines, tmp_path)
    assert theirs == {name: ours[name] for name in theirs}
    assert len(theirs) > 0.85 * len(ours), sorted(set(ours) - set(theirs))
