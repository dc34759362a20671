"""The debugger's side: single steps, breakpoints in registers and in code, watchpoints.

Source: KVM API, KVM_SET_GUEST_DEBUG; SDM vol. 3, "Debug Registers".
"""

from __future__ import annotations

import pytest
from rig import HLT, LONG, MODES, REAL, Trapped, asm, asm16, asm64
from rig.layout import CODE, DATA, HOLE

from minivmm import exits
from minivmm.kvm import constants as k
from minivmm.kvm import ioctls as io
from minivmm.kvm.calls import struct

STEP = k.KVM_GUESTDBG_ENABLE | k.KVM_GUESTDBG_SINGLESTEP
HARDWARE = k.KVM_GUESTDBG_ENABLE | k.KVM_GUESTDBG_USE_HW_BP
SOFTWARE = k.KVM_GUESTDBG_ENABLE | k.KVM_GUESTDBG_USE_SW_BP
ON_EXECUTE, ON_WRITE, ON_ACCESS = 0, 1, 3
FOUR_BYTES = 3


def debug(guest, control, *addresses, kind=ON_EXECUTE, length=0):
    """KVM_SET_GUEST_DEBUG, with a breakpoint register for each address."""
    request = struct("kvm_guest_debug", control=control)
    for n, address in enumerate(addresses):
        request.arch.debugreg[n] = address
        request.arch.debugreg[7] |= 3 << 2 * n | kind << 16 + 4 * n | length << 18 + 4 * n
    guest.cpu.ioctl(io.KVM_SET_GUEST_DEBUG, request)


@pytest.mark.parametrize("mode", MODES)
def test_each_step_is_an_exit(start, mode):
    guest = start(mode, asm("nop; inc eax; nop; hlt"))
    debug(guest, STEP)
    stops = [guest.cpu.run() for _ in range(3)]
    assert all(isinstance(stop, exits.Debug) for stop in stops)
    length = len(asm("inc eax; hlt")[guest.bits]) - 1
    assert [stop.pc - CODE for stop in stops] == [1, 1 + length, 2 + length]
    assert (stops[0].exception, stops[0].dr6 & 1 << 14) == (1, 1 << 14)


def test_steps_in_ring_3(start):
    guest = start(LONG, asm64("nop; nop; ud2"), ring=3)
    debug(guest, STEP)
    assert [guest.cpu.run().pc for _ in range(2)] == [CODE + 1, CODE + 2]


def test_a_step_follows_a_jump_and_a_call(start):
    guest = start(LONG, asm64("call there; hlt; there: jmp on; nop; on: ret"))
    debug(guest, STEP)
    assert [guest.cpu.run().pc - CODE for _ in range(3)] == [6, 9, 5]


def test_a_step_over_a_port_access(start):
    guest = start(REAL, asm16("out 0x77, al; nop; hlt"))
    debug(guest, STEP)
    assert isinstance(guest.cpu.run(), exits.PortOut)
    stop = guest.cpu.run()
    assert isinstance(stop, exits.Debug)
    assert stop.pc in (CODE + 2, CODE + 3)


def test_a_step_over_a_read_of_device_memory(start):
    guest = start(LONG, asm64("mov al, [rbx]; nop; nop; hlt"), rbx=HOLE)
    debug(guest, STEP)
    assert isinstance(guest.cpu.run(), exits.MmioRead)
    assert guest.cpu.run().pc - CODE == 2
    debug(guest, STEP)  # KVM's emulator, which did the read, drops what makes the processor step: ask again each time
    assert guest.cpu.run().pc - CODE == 3


def test_stepping_can_be_switched_off(start):
    guest = start(LONG, asm64("nop; nop; nop; hlt"))
    debug(guest, STEP)
    guest.cpu.run()
    debug(guest, 0)
    assert guest.trace() == [HLT]


@pytest.mark.parametrize("mode", MODES)
def test_a_breakpoint_in_a_register(start, mode):
    guest = start(mode, asm("nop; nop; nop; hlt"))
    debug(guest, HARDWARE, CODE + 2)
    stop = guest.cpu.run()
    assert isinstance(stop, exits.Debug)
    assert (stop.pc, stop.exception, stop.dr6 & 15, guest.regs.rip) == (CODE + 2, 1, 1, CODE + 2)


def test_four_breakpoints(start):
    guest = start(LONG, asm64("nop; nop; nop; nop; hlt"))
    debug(guest, HARDWARE, CODE + 3, CODE + 2, CODE + 1, CODE)
    stop = guest.cpu.run()
    assert (stop.pc, stop.dr6 & 15) == (CODE, 8)


def test_a_breakpoint_is_passed_by_a_step(start):
    guest = start(LONG, asm64("nop; nop; nop; hlt"))
    debug(guest, HARDWARE, CODE + 1)
    assert guest.cpu.run().pc == CODE + 1
    debug(guest, STEP)
    assert guest.cpu.run().pc == CODE + 2
    debug(guest, HARDWARE, CODE + 1)
    assert guest.trace() == [HLT]


@pytest.mark.parametrize("mode", MODES)
def test_a_watchpoint(start, mode):
    guest = start(mode, asm("mov al, [DATA]; mov [DATA + 4], al; mov [DATA], al; nop; hlt"))
    debug(guest, HARDWARE, DATA, kind=ON_WRITE, length=FOUR_BYTES)
    stop = guest.cpu.run()
    assert isinstance(stop, exits.Debug)
    assert guest.read(stop.pc, 1) == b"\x90"  # a trap: behind the instruction


def test_a_watchpoint_on_any_access(start):
    guest = start(LONG, asm64("nop; mov al, [DATA]; nop; hlt"))
    debug(guest, HARDWARE, DATA, kind=ON_ACCESS, length=FOUR_BYTES)
    stop = guest.cpu.run()
    assert isinstance(stop, exits.Debug)
    assert (stop.pc, stop.dr6 & 15) == (CODE + 8, 1)


@pytest.mark.parametrize("mode", MODES)
def test_a_breakpoint_in_the_code(start, mode):
    guest = start(mode, asm("nop; int3; nop; hlt"))
    debug(guest, SOFTWARE)
    stop = guest.cpu.run()
    assert isinstance(stop, exits.Debug)
    assert (stop.pc, stop.exception, guest.regs.rip) == (CODE + 1, 3, CODE + 1)
    guest.write(CODE + 1, b"\x90")
    assert guest.trace() == [HLT]


def test_without_the_debugger_int3_is_the_guests(start):
    guest = start(REAL, asm16("int3"))
    debug(guest, STEP)
    debug(guest, 0)
    assert guest.trace() == [Trapped(3)]


def test_guest_breakpoints_are_hidden_while_the_debugger_uses_the_registers(start):
    guest = start(LONG, asm64("mov eax, CODE + 1; mov dr0, rax; mov eax, 1; mov dr7, rax; nop; hlt"))
    debug(guest, HARDWARE, 0x5000)
    assert guest.trace() == [HLT]


def test_a_step_across_an_interrupt_return(start):
    guest = start(REAL, asm16("pushf; push cs; push offset there; iret; there: nop; hlt"))
    debug(guest, STEP)
    stops = [guest.cpu.run().pc - CODE for _ in range(5)]
    assert stops == [1, 2, 5, 6, 7]


def test_output_between_steps_is_not_lost(start):
    guest = start(LONG, asm64("mov al, 1; out 0x77, al; mov al, 2; out 0x77, al; hlt"))
    debug(guest, STEP)
    seen = []
    for _ in range(12):
        exit = guest.cpu.run()
        if isinstance(exit, exits.PortOut):
            seen.append(exit.data[0])
        if isinstance(exit, exits.Halted):
            break
    assert seen == [1, 2]
