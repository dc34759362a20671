"""What this host can run, found out by running it: probe guests, KVM's own account of itself, and what to do."""

from minivmm.doctor.diagnosis import diagnose, run_probes
from minivmm.doctor.probe import ProbeResult
from minivmm.doctor.report import Report

__all__ = ["ProbeResult", "Report", "diagnose", "run_probes"]
