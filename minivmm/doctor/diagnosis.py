"""The examination: facts of the host, then the device, then capabilities and probes."""

from __future__ import annotations

from minivmm.doctor.api_probes import API_PROBES
from minivmm.doctor.capabilities import capabilities
from minivmm.doctor.guest_probes import guest_probes
from minivmm.doctor.probe import ProbeResult
from minivmm.doctor.report import Report
from minivmm.doctor.verdict import judge, no_device
from minivmm.kvm.constants import KVM_API_VERSION
from minivmm.kvm.device import KvmBackend
from minivmm.kvm.errors import KvmError
from minivmm.kvm.host import Host, look
from minivmm.kvm.seam import Backend
from minivmm.vm import Vm


def run_probes(backend: Backend) -> list[ProbeResult]:
    """Asks every probe. Never raises; none takes longer than its time-out (probe.TIMEOUT)."""
    return [probe.run(backend) for probe in (*guest_probes(), *API_PROBES)]


def diagnose(backend: Backend | None = None, host: Host | None = None) -> Report:
    """Examines this host. `backend` and `host` stand in for /dev/kvm and for the facts of /proc and /sys."""
    backend = backend or KvmBackend()
    host = host or look()
    try:
        with Vm(backend) as vm:
            known = capabilities(vm)
    except KvmError as error:
        return Report(host, no_device(host, error.remedy or str(error)))
    probes = tuple(run_probes(backend))
    # A backend refuses to open with any other version of the API (seam.py).
    return Report(host, judge(host, probes), KVM_API_VERSION, known, probes)
