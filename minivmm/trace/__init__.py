"""Tracing: every exit as a line of JSON, and counts and latencies by kind and device."""

from minivmm.trace.filter import TraceFilter, TraceFilterError
from minivmm.trace.statistics import Statistics
from minivmm.trace.tracer import Tracer

__all__ = ["Statistics", "TraceFilter", "TraceFilterError", "Tracer"]
