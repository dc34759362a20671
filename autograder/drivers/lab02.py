"""Drivers of lab 02: they give the student a CPU state to fill in, run a guest on it, and tell what it did."""

from autograder.drivers.lab02_cpu import announced, cpuid, msr, three_modes
from autograder.drivers.lab02_modes import checksum_through, long, names, protected, tables, watch_walk
from autograder.drivers.lab02_segments import (
    addresses,
    bytes_by_name,
    decode,
    encode,
    hello_elsewhere,
    load_decoded,
    load_encoded,
    real_fields,
)

__all__ = [
    "addresses", "announced", "bytes_by_name", "checksum_through", "cpuid", "decode", "encode", "hello_elsewhere",
    "load_decoded", "load_encoded", "long", "msr",
    "names", "protected", "real_fields", "tables", "three_modes", "watch_walk",
]  # fmt: skip
