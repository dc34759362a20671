"""Ways to end KVM_RUN from outside, and the registers in the shared page.

Source: KVM API, "5. The kvm_run structure" (immediate_exit, sync regs), KVM_SET_SIGNAL_MASK.
"""

from __future__ import annotations

import errno
import signal
import threading
import time

import pytest
from rig import HLT, LONG, REAL, asm16, asm64
from rig.layout import CODE, DATA

from minivmm.kvm import constants as k
from minivmm.kvm import ioctls as io
from minivmm.kvm.binding import ffi

SPIN = asm64("spin: inc rax; jmp spin")


def test_immediate_exit_runs_nothing(start):
    guest = start(LONG, asm64("inc eax; hlt"))
    guest.cpu.page.immediate_exit = 1
    assert guest.cpu.enter() == -errno.EINTR
    assert (guest.regs.rax, guest.regs.rip) == (0, CODE)
    guest.cpu.page.immediate_exit = 0
    assert guest.trace() == [HLT]


def test_a_kick_ends_a_spinning_guest(start):
    guest = start(LONG, SPIN)
    kicker = threading.Timer(0.1, guest.cpu.kick)
    kicker.start()
    assert guest.cpu.enter() == -errno.EINTR
    kicker.join()
    assert guest.regs.rax > 0


def test_a_kick_before_the_entry_counts(start):
    guest = start(LONG, SPIN)
    guest.cpu.kick()
    assert guest.cpu.enter() == -errno.EINTR


def test_the_guest_goes_on_after_a_kick(start):
    guest = start(LONG, asm64("spin: inc rax; cmp byte ptr [DATA], 0; je spin; hlt"))
    for _ in range(5):
        kicker = threading.Timer(0.02, guest.cpu.kick)
        kicker.start()
        assert guest.cpu.enter() == -errno.EINTR
        kicker.join()
        guest.cpu.page.immediate_exit = 0
    guest.write(DATA, b"\1")
    assert guest.trace() == [HLT]


def test_a_signal_with_a_handler_ends_it(start, backend):
    if backend.name != "kvm":
        pytest.skip("signals are the kernel's way; the seam's is kick")
    guest = start(LONG, SPIN)
    previous = signal.signal(signal.SIGALRM, lambda number, frame: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        assert guest.cpu.enter() == -errno.EINTR
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_the_signal_mask_wants_its_length(start, backend):
    if backend.name != "kvm":
        pytest.skip("signals are the kernel's way; the seam's is kick")
    cpu = start(LONG, SPIN).cpu
    mask = ffi.new("struct kvm_signal_mask *", {"len": 8, "sigset": [0] * 8})
    cpu.ioctl(io.KVM_SET_SIGNAL_MASK, mask)
    mask.len = 4
    with pytest.raises(OSError, match="EINVAL"):
        cpu.ioctl(io.KVM_SET_SIGNAL_MASK, mask)


def test_kicks_from_several_threads(start):
    guest = start(LONG, SPIN)
    over = threading.Event()

    def hammer():
        while not over.wait(0.005):
            guest.cpu.kick()

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    stops = 0
    deadline = time.monotonic() + 20
    while stops < 20 and time.monotonic() < deadline:
        assert guest.cpu.enter() == -errno.EINTR
        guest.cpu.page.immediate_exit = 0
        stops += 1
    over.set()
    for thread in threads:
        thread.join()
    assert stops == 20


# ---- registers in the page ----


def test_registers_appear_in_the_page(start):
    guest = start(LONG, asm64("mov eax, 0x1234; mov dx, 0x123; out dx, al; hlt"))
    page = guest.cpu.page
    page.kvm_valid_regs = k.KVM_SYNC_X86_REGS | k.KVM_SYNC_X86_SREGS | k.KVM_SYNC_X86_EVENTS
    guest.cpu.run()
    assert page.s.regs.regs.rax == 0x1234
    assert page.s.regs.sregs.cr3 == guest.cpu.sregs.cr3
    assert page.s.regs.events.nmi.masked == 0


def test_registers_are_taken_from_the_page(start):
    guest = start(LONG, asm64("mov dx, 0x123; out dx, al; mov ebx, eax; hlt"))
    page = guest.cpu.page
    page.kvm_valid_regs = k.KVM_SYNC_X86_REGS
    guest.cpu.run()
    page.s.regs.regs.rax = 0x77
    page.kvm_dirty_regs = k.KVM_SYNC_X86_REGS
    assert guest.trace() == [HLT]
    assert (guest.regs.rbx, page.kvm_dirty_regs) == (0x77, 0)


def test_special_registers_are_taken_from_the_page(start):
    guest = start(REAL, asm16("mov dx, 0x123; out dx, al; mov al, [0]; hlt"))
    page = guest.cpu.page
    page.kvm_valid_regs = k.KVM_SYNC_X86_SREGS
    guest.cpu.run()
    page.s.regs.sregs.ds.base, page.s.regs.sregs.ds.selector = DATA, DATA >> 4
    page.kvm_dirty_regs = k.KVM_SYNC_X86_SREGS
    guest.write(DATA, b"\x31")
    assert guest.trace() == [HLT]
    assert guest.regs.rax & 0xFF == 0x31


@pytest.mark.parametrize("field", ["kvm_valid_regs", "kvm_dirty_regs"])
def test_unknown_sets_of_registers_are_refused(start, field):
    guest = start(LONG, SPIN)
    setattr(guest.cpu.page, field, 1 << 40)
    assert guest.cpu.enter() == -errno.EINVAL


def test_the_capability_names_the_sets(vm):
    assert vm.has(k.KVM_CAP_SYNC_REGS) == 7
    assert vm.has(k.KVM_CAP_IMMEDIATE_EXIT) == 1
