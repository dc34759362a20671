"""Drivers of lab 04: page tables made, walked, harvested and shadowed, with guests that run on them."""

from autograder.drivers.lab04_shadow import shadow_built, table_writes
from autograder.drivers.lab04_tables import (
    bits_harvested,
    cut_addresses,
    faults_served,
    judge_accesses,
    pages_built,
    pages_listed,
    tables_listed,
    walk_any_tables,
    walk_beside_a_guest,
    walk_in_32_bits,
    walk_tables,
)

__all__ = [
    "bits_harvested", "cut_addresses", "faults_served", "judge_accesses", "pages_built", "pages_listed", "shadow_built",
    "table_writes", "tables_listed", "walk_any_tables", "walk_beside_a_guest", "walk_in_32_bits", "walk_tables",
]  # fmt: skip
