"""The path of one check on a real device: slice, sandbox, system calls through the recorder, exits, verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_lab import by_id, cell, notebook

from autograder.drivers.base import recording
from autograder.drivers.recorder import Recorder
from autograder.grading import grade
from autograder.model import CheckResult
from autograder.registry import Registry
from minivmm.kvm import (
    KVM_CREATE_VCPU,
    KVM_CREATE_VM,
    KVM_GET_VCPU_MMAP_SIZE,
    KVM_RUN,
    KvmBackend,
    close,
    ioctl,
    mmap_run,
    open_kvm,
)
from minivmm.machine import Machine

pytestmark = pytest.mark.kvm

ANSWER = """from minivmm.kvm import *

def console(image):
    kvm = open_kvm()
    vm = ioctl(kvm, KVM_CREATE_VM)
    memory = anonymous_memory(SIZE)
    memory[:len(image)] = image
    ioctl(vm, KVM_SET_USER_MEMORY_REGION, struct("kvm_userspace_memory_region", memory_size=SIZE,
                                                 userspace_addr=address_of(memory)))
    vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)
    run = mmap_run(vcpu, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE))
    sregs = struct("kvm_sregs")
    ioctl(vcpu, KVM_GET_SREGS, sregs)
    sregs.cs.base = sregs.cs.selector = 0
    ioctl(vcpu, KVM_SET_SREGS, sregs)
    ioctl(vcpu, KVM_SET_REGS, struct("kvm_regs", rip=0, rflags=2))
    output = b""
    while True:
        ioctl(vcpu, KVM_RUN)
        if run.exit_reason == KVM_EXIT_HLT:
            return output
        output += bytes(run.page[run.io.data_offset : run.io.data_offset + 1])
"""


@pytest.fixture
def verdict(tmp_path: Path) -> Callable[..., CheckResult]:
    registry = Registry({"71": "kvm_stage"}, (str(Path(__file__).parent / "toy"),))

    def run(old: str = "", new: str = "") -> CheckResult:
        assert old in ANSWER
        path = tmp_path / "lab71.ipynb"
        cells = (cell("SIZE = 0x1000"), cell(ANSWER.replace(old, new), "lab71-console", "71.1"))
        path.write_text(json.dumps(notebook(*cells, lab="71")))
        report = grade(path, registry, seed=3, jobs=1)
        assert report.backend == "kvm"
        return by_id(report)["71.1"]

    return run


def test_right(verdict: Callable[..., CheckResult]) -> None:
    result = verdict()
    assert (result.verdict, result.points) == ("ok", 3), result.message


def test_a_guest_that_never_ends_is_a_timeout(verdict: Callable[..., CheckResult]) -> None:
    """jmp $ inside KVM_RUN: only SIGKILL gets the thread out."""
    result = verdict("memory[:len(image)] = image", 'memory[:2] = b"\\xeb\\xfe"')
    assert (result.verdict, result.points) == ("timeout", 0)


def test_a_refused_call_names_the_call_the_line_and_the_hint(verdict: Callable[..., CheckResult]) -> None:
    result = verdict("memory_size=SIZE", "memory_size=SIZE - 1")
    assert result.verdict == "crash"
    assert result.message.startswith("line 8 of cell 71.1: KvmError: KVM_SET_USER_MEMORY_REGION failed: EINVAL")
    assert result.hint == "Is the slot's size a multiple of 4096?"


def test_wrong_bytes_are_shown_in_hex(verdict: Callable[..., CheckResult]) -> None:
    result = verdict("run.io.data_offset + 1]", "run.io.data_offset + 2]")
    assert result.verdict == "wrong"
    assert "what `console` returned: 8 bytes where 4 are expected; the first difference is at byte 1" in result.message


def test_a_lost_exit_shows_where_the_exits_part(verdict: Callable[..., CheckResult]) -> None:
    again = """    ioctl(vcpu, KVM_RUN)
    ioctl(vcpu, KVM_SET_REGS, struct('kvm_regs', rip=0, rflags=2))
    output = b""
"""
    result = verdict('    output = b""\n', again)
    assert result.verdict == "wrong"
    assert "the exits part at number 1" in result.message


def test_the_recorder_closes_what_is_left_open_and_nothing_twice() -> None:
    with recording() as rec:
        kvm = open_kvm()
        vm = ioctl(kvm, KVM_CREATE_VM)
        vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)
        page = mmap_run(vcpu, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE))
        page.immediate_exit = 1
        with pytest.raises(OSError, match="KVM_RUN failed: EINTR"):
            ioctl(vcpu, KVM_RUN)
    assert rec.exits == ["KVM_RUN: EINTR"]
    assert rec.calls[:2] == ["KVM_CREATE_VM: handle", "KVM_CREATE_VCPU: handle"]
    with recording():
        again = open_kvm()  # takes the lowest free number, which the first VM had
        for late in (vcpu, vm, kvm):
            close(late)
        assert ioctl(again, KVM_GET_VCPU_MMAP_SIZE) > 0


def test_a_machine_of_the_library_is_recorded_too() -> None:
    with recording() as rec, Machine(backend=rec) as machine:
        machine.load(0x1000, b"\xb0\x2a\xe6\xf4\xf4")  # mov al, 0x2a; out 0xf4, al; hlt
        machine.enter("real", 0x1000)
        assert machine.run().reason == "debug-exit"
    assert rec.exits == ["out8 port 0xf4: 2a"]


class Halting(KvmBackend):
    """A backend on which every KVM_RUN returns at once."""

    def ioctl(self, fd: int, request: int, argument: object = 0) -> int:
        return 0 if request == KVM_RUN else super().ioctl(fd, request, argument)


def test_a_run_whose_page_was_never_mapped_is_recorded() -> None:
    rec = Recorder(Halting())
    kvm = rec.open()
    vcpu = rec.ioctl(rec.ioctl(kvm, KVM_CREATE_VM), KVM_CREATE_VCPU)
    rec.ioctl(vcpu, KVM_RUN)
    assert rec.exits == ["an exit whose kvm_run page was never mapped"]
    rec.close_all()
