"""Lab 01, the first exit: its checks. What is asked and what is right is in lab01_*.py, a few tasks to a file."""

from __future__ import annotations

from collections.abc import Callable

from autograder.model import Case, Check, Finding, Hint, Lab, Limits
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages import lab01_hints as hints
from autograder.stages.lab01_handles import other_versions, refuses, right_number, triples, usable_handle, version_12
from autograder.stages.lab01_loop import (
    entered,
    interruptions,
    looped,
    not_ours,
    other_ports,
    refused,
    says_hello,
    talks,
    three_faults,
    to_the_end,
    whole,
)
from autograder.stages.lab01_machine import (
    entries,
    larger_pages,
    memory_is_there,
    one_slot,
    started,
    two_slots,
    vcpu_and_page,
)
from autograder.stages.lab01_ports import (
    all_bytes,
    answered,
    nothing_left,
    string_read,
    strings,
    widths,
    widths_read,
)

LIMITS = Limits(seconds=1.0)


def check(
    id: str,
    title: str,
    points: int,
    exercise: str,
    cases: Callable[[Nonces], list[Case]],
    verdict: Callable[[Case, Observation], Finding],
    advice: tuple[Hint, ...],
    *guests: str,
    driver: str = "",
) -> Check:
    return Check(id, title, points, exercise, driver or exercise, cases, verdict, advice, guests, LIMITS)


LAB = Lab(
    "01",
    "The first exit",
    (
        check("01.1", "an ioctl is a number", 1, "request_number", triples, right_number, hints.NUMBER, driver="call"),
        check("01.2", "the system handle", 1, "open_system", version_12, usable_handle, hints.SYSTEM),
        check("01.2b", "no other version than 12", 1, "open_system", other_versions, refuses, hints.VERSION),
        check(
            "01.3", "memory for the guest", 1, "add_memory", one_slot, memory_is_there, hints.MEMORY,
            "rep-outsb", "checksum-real",
        ),
        check("01.3b", "two slots", 1, "add_memory", two_slots, memory_is_there, hints.SLOTS, "checksum-real"),
        check("01.4", "a vCPU and its page", 1, "create_vcpu", larger_pages, vcpu_and_page, hints.VCPU, "hello"),
        check("01.5", "where the guest begins", 2, "start_at", entries, started, hints.START, "hello"),
        check("01.6", "OUT of every width", 1, "bytes_of", widths, all_bytes, hints.OUT, "hello", "port-widths"),
        check(
            "01.6b", "a whole string in one exit", 1, "bytes_of", strings, all_bytes, hints.OUT,
            "rep-outsb", "rep-outsw",
        ),
        check("01.7", "IN of every width", 1, "fill", widths_read, answered, hints.IN, "port-echo", "port-widths"),
        check("01.7b", "many bytes into one exit", 1, "fill", string_read, answered, hints.IN, "rep-insb"),
        check(
            "01.7c", "all ones where nothing is left", 1, "fill", nothing_left, answered, hints.IN,
            "unknown-port", "port-widths",
        ),
        check("01.8", "KVM_RUN and signals", 1, "enter", interruptions, entered, hints.ENTER, "hello"),
        check("01.9", "until the guest halts", 1, "run_loop", to_the_end, looped, hints.LOOP, "hello", "port-echo"),
        check("01.9b", "a triple fault ends it, too", 1, "run_loop", three_faults, looped, hints.LOOP, "triple-fault"),
        check(
            "01.9c", "an exit that nobody handles", 1, "run_loop", not_ours, refused, hints.UNKNOWN,
            "checksum-real", "hello",
        ),
        check("01.10", "Hello", 1, "vmm", says_hello, whole, hints.VMM, "hello"),
        check("01.10b", "a conversation", 1, "vmm", talks, whole, hints.VMM, "port-echo", "rep-insb", "rep-outsb"),
        check("01.10c", "the other ports", 1, "vmm", other_ports, whole, hints.VMM, "unknown-port", "hello"),
    ),
)  # fmt: skip
