"""Where a platform differs from what the suite asks, by test, with the reason.

Each entry is a strict expected failure on that platform: it is reported if the difference goes away. A name is
`file::test`, or `file::test[parameters]` without the backend, or `*[parameter]` for every test that has it. The tables
are facts about platforms, not excuses: a test asks for what the architecture or the KVM API says.
"""

from __future__ import annotations

import os

from minivmm.kvm import host

# Hosts whose KVM is kvm_pvm: it runs 64-bit ring 3 natively and interprets the rest with KVM's x86 emulator.
PVM: dict[str, str] = {
    "*[paging32]": "32-bit paging: SHUTDOWN at the first instruction",
    "*[pae]": "PAE paging: SHUTDOWN at the first instruction",
}

# Upstream kvm-amd inside QEMU's TCG (tools/box.py), which emulates the processor underneath.
BOX: dict[str, str] = {}

# The backend without hardware.
SOFT: dict[str, str] = {}


def for_platform(backend: str) -> list[dict[str, str]]:
    """The tables that hold for a backend on this host."""
    if backend == "soft":
        return [SOFT]
    if backend != "kvm":
        return []
    return [BOX] * ("MINIVMM_BOX" in os.environ) + [PVM] * host.look().is_pvm


def all_names() -> set[str]:
    return PVM.keys() | BOX.keys() | SOFT.keys()
