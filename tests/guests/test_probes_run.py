"""The doctor's probes: each says yes on a full KVM; on kvm_pvm some say no, and it is known which."""

from __future__ import annotations

from pathlib import Path

import pytest

from minivmm import guests

PASSED = (0x10 << 1) | 1

# What the kvm_pvm module can't run. Should a newer one learn it, this test says so.
PVM_LACKS = {f"probes/{name}" for name in ("paging32", "pae", "syscall", "software-interrupt", "sse", "x87")}


@pytest.mark.parametrize("name", guests.probes())
def test_probe(run_guest, backend, name):
    run = run_guest(name, timeout=2)
    if name == "probes/hlt":
        assert run.stop.reason == "halted"
        run.stop = run.machine.run(2)
    passed = (run.stop.reason, run.stop.exit_code) == ("debug-exit", PASSED)
    is_pvm = backend.name == "kvm" and Path("/sys/module/kvm_pvm").exists()
    assert passed != (is_pvm and name in PVM_LACKS), run.stop
