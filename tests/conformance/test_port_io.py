"""Ports: every width, both forms, string instructions, and the answer's way back.

Source: SDM vol. 1, "Input/Output"; KVM API, KVM_EXIT_IO.
"""

from __future__ import annotations

import pytest
from rig import ALL_MODES, HLT, LONG, MODES, REAL, In, Out, asm, asm16, asm32, asm64


@pytest.mark.parametrize("mode", ALL_MODES)
def test_out_of_each_width(start, mode):
    code = asm("mov dx, 0x123; mov eax, 0x44332211; out dx, al; out dx, ax; out dx, eax; out 0x77, al; hlt")
    wanted = [Out(0x123, 1, 0x11), Out(0x123, 2, 0x2211), Out(0x123, 4, 0x44332211), Out(0x77, 1, 0x11), HLT]
    assert start(mode, code).trace() == wanted


@pytest.mark.parametrize("mode", MODES)
def test_in_of_each_width_leaves_the_rest_of_eax(start, mode):
    code = asm("""
        mov dx, 0x123
        mov eax, -1; in al, dx; mov ebx, eax
        mov eax, -1; in ax, dx; mov ecx, eax
        mov eax, -1; in eax, dx
        hlt
    """)
    guest = start(mode, code)
    assert guest.trace([0x12, 0x1234, 0x12345678]) == [In(0x123, 1), In(0x123, 2), In(0x123, 4), HLT]
    regs = guest.regs
    assert (regs.rbx & 0xFFFFFFFF, regs.rcx & 0xFFFFFFFF, regs.rax) == (0xFFFFFF12, 0xFFFF1234, 0x12345678)


def test_a_port_has_16_bits(start):
    assert start(LONG, asm64("mov edx, 0xABCDFFFF; mov al, 5; out dx, al; hlt")).trace() == [Out(0xFFFF, 1, 5), HLT]


def test_a_32_bit_in_clears_the_upper_half_of_rax(start):
    guest = start(LONG, asm64("mov rax, -1; mov dx, 0x123; in eax, dx; hlt"))
    guest.trace([0x80000001])
    assert guest.regs.rax == 0x80000001


@pytest.mark.parametrize("mode", ALL_MODES)
def test_rep_outsb_sends_the_bytes_in_order(start, mode):
    guest = start(mode, asm("mov esi, DATA; mov ecx, 5; mov dx, 0x123; cld; rep outsb; hlt"))
    guest.write(0x4000, b"Hello")
    assert guest.trace() == [*(Out(0x123, 1, byte) for byte in b"Hello"), HLT]
    regs = guest.regs
    assert (regs.rcx, regs.rsi) == (0, 0x4005)


@pytest.mark.parametrize("mode", MODES)
def test_rep_outsw_and_outsd(start, mode):
    guest = start(mode, asm("mov esi, DATA; mov ecx, 2; mov dx, 0x123; rep outsw; mov ecx, 2; rep outsd; hlt"))
    guest.write(0x4000, bytes(range(1, 13)))
    words = [Out(0x123, 2, 0x0201), Out(0x123, 2, 0x0403)]
    assert guest.trace() == [*words, Out(0x123, 4, 0x08070605), Out(0x123, 4, 0x0C0B0A09), HLT]


@pytest.mark.parametrize("mode", ALL_MODES)
def test_rep_insb_fills_memory(start, mode):
    guest = start(mode, asm("mov edi, DATA; mov ecx, 5; mov dx, 0x123; cld; rep insb; hlt"))
    assert guest.trace(b"World") == [In(0x123, 1)] * 5 + [HLT]
    assert guest.read(0x4000, 6) == b"World\0"
    assert (guest.regs.rcx, guest.regs.rdi) == (0, 0x4005)


@pytest.mark.parametrize("mode", MODES)
def test_rep_insd(start, mode):
    guest = start(mode, asm("mov edi, DATA; mov ecx, 3; mov dx, 0x123; cld; rep insd; hlt"))
    assert guest.trace([0x11111111, 0x22222222, 0x33333333]) == [In(0x123, 4)] * 3 + [HLT]
    assert guest.read(0x4000, 12) == b"\x11" * 4 + b"\x22" * 4 + b"\x33" * 4


def test_string_output_downwards(start):
    guest = start(REAL, asm16("mov si, DATA + 2; mov cx, 3; mov dx, 0x123; std; rep outsb; hlt"))
    guest.write(0x4000, b"abc")
    assert guest.trace() == [*(Out(0x123, 1, byte) for byte in b"cba"), HLT]
    assert guest.regs.rsi == 0x3FFF


def test_string_input_downwards(start):
    guest = start(LONG, asm64("mov edi, DATA + 2; mov ecx, 3; mov dx, 0x123; std; rep insb; hlt"))
    guest.trace(b"abc")
    assert guest.read(0x4000, 3) == b"cba"


def test_rep_with_a_count_of_zero_does_nothing(start):
    guest = start(LONG, asm64("mov edi, DATA; xor ecx, ecx; mov dx, 0x123; rep insb; rep outsb; hlt"))
    assert guest.trace() == [HLT]
    assert guest.regs.rdi == 0x4000


def test_string_input_across_a_page(start):
    guest = start(LONG, asm64("mov edi, SPARE + 0xFFC; mov ecx, 8; mov dx, 0x123; cld; rep insb; hlt"))
    guest.trace(b"ABCDEFGH")
    assert guest.read(0xCFFC, 8) == b"ABCDEFGH"


def test_more_input_than_a_page(start):
    guest = start(REAL, asm16("mov di, SPARE; mov cx, 5000; mov dx, 0x123; cld; rep insb; hlt"))
    data = bytes(i * 7 & 0xFF for i in range(5000))
    supply = iter(data)
    while (events := guest.trace(supply)) and events[-1] != HLT:
        pass
    assert guest.read(0xC000, 5000) == data


def test_a_word_port_at_the_end_of_the_space(start):
    assert start(REAL, asm16("mov dx, 0xFFFE; mov ax, 0xBEEF; out dx, ax; hlt")).trace()[0] == Out(0xFFFE, 2, 0xBEEF)


def test_the_segment_of_outs_can_be_overridden(start):
    guest = start(REAL, asm16("mov ax, 0x400; mov es, ax; mov si, 3; mov dx, 0x123; outsb dx, es:[si]; hlt"))
    guest.write(0x4003, b"\x5a")
    assert guest.trace() == [Out(0x123, 1, 0x5A), HLT]


def test_state_at_a_port_exit_is_complete_after_the_next_entry(start):
    guest = start(LONG, asm64("mov dx, 0x123; in al, dx; hlt"))
    exit = guest.cpu.run()
    exit.buffer[0] = 0x42
    guest.cpu.finish()
    assert (guest.regs.rax & 0xFF, guest.regs.rip) == (0x42, 0x1005)


def test_32_bit_ports_from_16_bit_code_and_back(start):
    assert start(REAL, asm16("mov eax, 0x11223344; mov dx, 0x200; out dx, eax; hlt")).trace()[0].value == 0x11223344
    assert start("protected", asm32("mov ax, 0x5566; mov dx, 0x200; out dx, ax; hlt")).trace()[0].value == 0x5566
