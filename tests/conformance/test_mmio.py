"""Accesses to where no memory is: every width, what the instruction makes of the answer, and how long ones are cut up.

Source: KVM API, KVM_EXIT_MMIO.
"""

from __future__ import annotations

import pytest
from rig import ALL_MODES, HLT, LONG, MODES, PROTECTED, REAL, Load, Store, asm16, asm32, asm64
from rig.layout import DATA, HOLE, RAM_SIZE

from minivmm.x86 import bits


def segment(guest):
    """In real mode the hole is reached through ES: its base is set as `mov es, 0xA000` would."""
    if guest.mode == REAL:
        sregs = guest.cpu.sregs
        sregs.es.base, sregs.es.selector = HOLE, HOLE >> 4
        guest.cpu.set_sregs(sregs)
    return guest


@pytest.mark.parametrize("mode", ALL_MODES)
def test_stores_of_each_width(start, mode):
    guest = start(mode, {
        16: asm16("mov ax, 0xA000; mov es, ax; mov eax, 0x44332211;"
                  "mov es:[8], al; mov es:[0x10], ax; mov es:[0x20], eax; hlt"),
        32: asm32("mov eax, 0x44332211; mov [HOLE + 8], al; mov [HOLE + 0x10], ax; mov [HOLE + 0x20], eax; hlt"),
        64: asm64("mov eax, 0x44332211; mov ebx, HOLE; mov [rbx+8], al; mov [rbx+16], ax; mov [rbx+32], eax; hlt"),
    })  # fmt: skip
    wanted = [Store(HOLE + 8, 1, 0x11), Store(HOLE + 16, 2, 0x2211), Store(HOLE + 32, 4, 0x44332211), HLT]
    assert guest.trace() == wanted


@pytest.mark.parametrize("mode", ALL_MODES)
def test_loads_of_each_width(start, mode):
    guest = start(mode, {
        16: asm16("mov ax, 0xA000; mov es, ax; mov eax, -1; mov ebx, eax; mov ecx, eax;"
                  "mov al, es:[8]; mov bx, es:[0x10]; mov ecx, es:[0x20]; hlt"),
        32: asm32("mov eax, -1; mov ebx, eax; mov ecx, eax;"
                  "mov al, [HOLE + 8]; mov bx, [HOLE + 0x10]; mov ecx, [HOLE + 0x20]; hlt"),
        64: asm64("mov eax, -1; mov ebx, eax; mov ecx, eax; mov esi, HOLE;"
                  "mov al, [rsi + 8]; mov bx, [rsi + 0x10]; mov ecx, [rsi + 0x20]; hlt"),
    })  # fmt: skip
    loads = [Load(HOLE + 8, 1), Load(HOLE + 0x10, 2), Load(HOLE + 0x20, 4), HLT]
    assert guest.trace([0x12, 0x3456, 0x789ABCDE]) == loads
    regs = guest.regs
    assert (regs.rax & 0xFFFFFFFF, regs.rbx & 0xFFFFFFFF, regs.rcx) == (0xFFFFFF12, 0xFFFF3456, 0x789ABCDE)


def test_eight_bytes_in_long_mode(start):
    guest = start(LONG, asm64("mov ebx, HOLE; mov rax, [rbx]; inc rax; mov [rbx + 8], rax; hlt"))
    answer = 0x1122334455667788
    assert guest.trace([answer]) == [Load(HOLE, 8), Store(HOLE + 8, 8, answer + 1), HLT]


def test_extension_of_small_loads(start):
    guest = start(LONG, asm64("""
        mov ebp, HOLE; movzx rax, byte ptr [rbp]; movsx rbx, byte ptr [rbp]; movzx ecx, word ptr [rbp]
        movsx rdx, word ptr [rbp]; movsxd rsi, dword ptr [rbp]; mov edi, [rbp]; hlt
    """))  # fmt: skip
    guest.trace([0x80, 0x80, 0x8001, 0x8001, 0x80000001, 0x80000001])
    regs = guest.regs
    assert (regs.rax, regs.rbx, regs.rcx) == (0x80, (1 << 64) - 0x80, 0x8001)
    assert (regs.rdx, regs.rsi, regs.rdi) == ((1 << 64) - 0x7FFF, (1 << 64) - 0x7FFFFFFF, 0x80000001)


@pytest.mark.parametrize("mode", [PROTECTED, LONG])
def test_read_modify_write_reads_then_writes(start, mode):
    guest = start(mode, {
        32: asm32("mov ebx, HOLE; mov eax, 1; add [ebx], eax; lock inc dword ptr [ebx]; not dword ptr [ebx]; hlt"),
        64: asm64("mov ebx, HOLE; mov eax, 1; add [rbx], eax; lock inc dword ptr [rbx]; not dword ptr [rbx]; hlt"),
    })  # fmt: skip
    load = Load(HOLE, 4)
    stores = [Store(HOLE, 4, value) for value in (0x11, 0x21, 0xFFFFFFCF)]
    assert guest.trace([0x10, 0x20, 0x30]) == [load, stores[0], load, stores[1], load, stores[2], HLT]


def test_xchg_and_cmpxchg(start):
    guest = start(LONG, asm64("""
        mov ebx, HOLE; mov ecx, 7; xchg [rbx], ecx; mov eax, 5; mov edx, 9; lock cmpxchg [rbx], edx; hlt
    """))  # fmt: skip
    assert guest.trace([0x66, 5]) == [Load(HOLE, 4), Store(HOLE, 4, 7), Load(HOLE, 4), Store(HOLE, 4, 9), HLT]
    assert (guest.regs.rcx, guest.regs.rflags & bits.RFLAGS_ZF) == (0x66, bits.RFLAGS_ZF)


def test_comparing_reads_only(start):
    guest = start(LONG, asm64("mov ebx, HOLE; cmp dword ptr [rbx], 5; sete al; test byte ptr [rbx], 1; setnz ah; hlt"))
    assert guest.trace([5, 2]) == [Load(HOLE, 4), Load(HOLE, 1), HLT]
    assert guest.regs.rax & 0xFFFF == 0x0001


@pytest.mark.parametrize("mode", MODES)
def test_an_unaligned_access_is_one_exit(start, mode):
    guest = segment(start(mode, {
        16: asm16("mov eax, 0x04030201; mov es:[1], eax; mov ax, es:[0x0D]; hlt"),
        32: asm32("mov eax, 0x04030201; mov [HOLE + 1], eax; mov ax, [HOLE + 0x0D]; hlt"),
        64: asm64("mov eax, 0x04030201; mov ebx, HOLE; mov [rbx + 1], eax; mov ax, [rbx + 0x0D]; hlt"),
    }))  # fmt: skip
    assert guest.trace([0]) == [Store(HOLE + 1, 4, 0x04030201), Load(HOLE + 0x0D, 2), HLT]


@pytest.mark.parametrize("mode", MODES)
def test_an_access_across_pages_is_two_exits(start, mode):
    guest = segment(start(mode, {
        16: asm16("mov eax, 0x04030201; mov es:[0xFFD], eax; mov ebx, es:[0xFFE]; hlt"),
        32: asm32("mov eax, 0x04030201; mov [HOLE + 0xFFD], eax; mov ebx, [HOLE + 0xFFE]; hlt"),
        64: asm64("mov eax, 0x04030201; mov esi, HOLE; mov [rsi + 0xFFD], eax; mov ebx, [rsi + 0xFFE]; hlt"),
    }))  # fmt: skip
    stores = [Store(HOLE + 0xFFD, 3, 0x030201), Store(HOLE + 0x1000, 1, 0x04)]
    assert guest.trace([0x2211, 0x4433]) == [*stores, Load(HOLE + 0xFFE, 2), Load(HOLE + 0x1000, 2), HLT]
    assert guest.regs.rbx & 0xFFFFFFFF == 0x44332211


@pytest.mark.parametrize("offset", range(0xFF9, 0x1000))
def test_a_read_of_8_bytes_across_pages_asks_for_no_more(start, offset):
    guest = start(LONG, asm64("mov rbx, [rsi]; hlt"), rsi=HOLE + offset)
    first = 0x1000 - offset
    value = 0x8877665544332211
    parts = [value & (1 << 8 * first) - 1, value >> 8 * first]
    assert guest.trace(parts) == [Load(HOLE + offset, first), Load(HOLE + 0x1000, 8 - first), HLT]
    assert guest.regs.rbx == value


@pytest.mark.parametrize("offset", range(1, 8))
def test_an_unaligned_read_of_8_bytes_is_one_exit(start, offset):
    guest = start(LONG, asm64("mov rbx, [rsi]; hlt"), rsi=HOLE + 0x100 + offset)
    assert guest.trace([0x8877665544332211]) == [Load(HOLE + 0x100 + offset, 8), HLT]
    assert guest.regs.rbx == 0x8877665544332211


@pytest.mark.parametrize("mode", [PROTECTED, LONG])
def test_an_access_from_memory_into_the_hole(start, mode):
    guest = start(mode, {
        32: asm32("mov eax, 0x04030201; mov [RAM_SIZE - 2], eax; mov ebx, [RAM_SIZE - 1]; hlt"),
        64: asm64("mov eax, 0x04030201; mov esi, RAM_SIZE; mov [rsi - 2], eax; mov ebx, [rsi - 1]; hlt"),
    })  # fmt: skip
    assert guest.trace([0xCCBBAA]) == [Store(RAM_SIZE, 2, 0x0403), Load(RAM_SIZE, 3), HLT]
    assert guest.read(RAM_SIZE - 2, 2) == b"\x01\x02"
    assert guest.regs.rbx & 0xFFFFFFFF == 0xCCBBAA02


@pytest.mark.parametrize("mode", MODES)
def test_rep_movs_into_the_hole_and_back(start, mode):
    guest = segment(start(mode, {
        16: asm16("mov si, DATA; xor di, di; mov cx, 3; cld; rep movsb;"
                  "push ds; push es; pop ds; pop es; mov si, 0x100; mov di, DATA + 8; mov cx, 2; rep movsb; hlt"),
        32: asm32("mov esi, DATA; mov edi, HOLE; mov ecx, 3; cld; rep movsb;"
                  "mov esi, HOLE + 0x100; mov edi, DATA + 8; mov ecx, 2; rep movsb; hlt"),
        64: asm64("mov esi, DATA; mov edi, HOLE; mov ecx, 3; cld; rep movsb;"
                  "mov esi, HOLE + 0x100; mov edi, DATA + 8; mov ecx, 2; rep movsb; hlt"),
    }))  # fmt: skip
    guest.write(DATA, b"xyz")
    stores = [Store(HOLE + n, 1, byte) for n, byte in enumerate(b"xyz")]
    assert guest.trace(b"AB") == [*stores, Load(HOLE + 0x100, 1), Load(HOLE + 0x101, 1), HLT]
    assert guest.read(DATA + 8, 2) == b"AB"


def test_movs_within_the_hole(start):
    guest = start(LONG, asm64("mov esi, HOLE; mov edi, HOLE + 0x1000; mov ecx, 2; rep movsd; hlt"))
    wanted = [Load(HOLE, 4), Store(HOLE + 0x1000, 4, 5), Load(HOLE + 4, 4), Store(HOLE + 0x1004, 4, 6), HLT]
    assert guest.trace([5, 6]) == wanted


def test_rep_stos_and_lods(start):
    guest = start(LONG, asm64("mov edi, HOLE; mov eax, 0x55; mov ecx, 3; rep stosw; mov esi, HOLE; lodsq; hlt"))
    stores = [Store(HOLE + 2 * n, 2, 0x55) for n in range(3)]
    assert guest.trace([0x1111111122222222]) == [*stores, Load(HOLE, 8), HLT]
    assert guest.regs.rax == 0x1111111122222222


def test_a_stack_in_the_hole(start):
    guest = start(LONG, asm64("mov esp, HOLE + 0x10; push 0x1234; pop rbx; hlt"))
    assert guest.trace([0x99]) == [Store(HOLE + 8, 8, 0x1234), Load(HOLE + 8, 8), HLT]
    assert (guest.regs.rbx, guest.regs.rsp) == (0x99, HOLE + 0x10)


def test_sixteen_bytes_are_two_exits(start):
    guest = start(LONG, asm64("mov ebx, HOLE; movdqu xmm1, [rbx]; movdqu [rbx + 16], xmm1; hlt"))
    guest.cpu.change(cr4=guest.cpu.sregs.cr4 | bits.CR4_OSFXSR)
    pieces = [Store(HOLE + 16, 8, 0x1111), Store(HOLE + 24, 8, 0x2222)]
    assert guest.trace([0x1111, 0x2222]) == [Load(HOLE, 8), Load(HOLE + 8, 8), *pieces, HLT]


def test_the_answer_arrives_with_the_next_entry(start):
    guest = start(LONG, asm64("mov ebx, HOLE; mov eax, [rbx]; hlt"))
    exit = guest.cpu.run()
    exit.buffer[:4] = (0xABCD).to_bytes(4, "little")
    guest.cpu.finish()
    assert (guest.regs.rax, guest.regs.rip) == (0xABCD, 0x1007)


def test_ring_3_reaches_the_hole(start):
    guest = start(LONG, asm64("mov ebx, HOLE; mov dword ptr [rbx], 0x31; mov eax, [rbx]; mov [DATA], eax; ud2"), ring=3)
    assert guest.trace([0x32])[:2] == [Store(HOLE, 4, 0x31), Load(HOLE, 4)]
    assert guest.word(DATA) == 0x32
