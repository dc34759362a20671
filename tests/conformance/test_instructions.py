"""Single instructions that an engine may lack: floating point, vectors, bit counting, locked exchanges, odd old ones.

Each leaves its result in RAX. Where CPUID doesn't offer an instruction, the test is skipped and says so.
Source: SDM vol. 2.
"""

from __future__ import annotations

import pytest
from rig import HLT, LONG, PROTECTED, REAL, Trapped, asm16, asm32, asm64
from rig.layout import DATA

from minivmm.x86 import bits

SSE = bits.CR4_OSFXSR | bits.CR4_OSXMMEXCPT
AVX = SSE | bits.CR4_OSXSAVE


def features(guest):
    """The names of what CPUID offers, as far as these tests ask."""
    one, seven, extended = guest.leaf(1), guest.leaf(7), guest.leaf(0x80000001)
    table = {
        "sse3": one.ecx, "ssse3": one.ecx >> 9, "cx16": one.ecx >> 13, "sse41": one.ecx >> 19, "sse42": one.ecx >> 20,
        "movbe": one.ecx >> 22, "popcnt": one.ecx >> 23, "xsave": one.ecx >> 26, "avx": one.ecx >> 28,
        "rdrand": one.ecx >> 30, "aes": one.ecx >> 25, "pclmul": one.ecx >> 1,
        "fsgsbase": seven.ebx, "bmi1": seven.ebx >> 3, "avx2": seven.ebx >> 5, "bmi2": seven.ebx >> 8,
        "invpcid": seven.ebx >> 10, "adx": seven.ebx >> 19, "smap": seven.ebx >> 20, "clflushopt": seven.ebx >> 23,
        "lahf": extended.ecx, "lzcnt": extended.ecx >> 5, "rdtscp": extended.edx >> 27, "prefetchw": extended.ecx >> 8,
        "rdpid": seven.ecx >> 22,
    }  # fmt: skip
    return {name for name, bit in table.items() if bit & 1}


@pytest.mark.parametrize("ring", [0, 3])
@pytest.mark.parametrize(
    ("code", "wanted", "needs"),
    [
        (asm64("fninit; fld1; fld1; faddp; fistp qword ptr [DATA]; mov rax, [DATA]"), 2, ""),
        (asm64("fninit; fldpi; fstp dword ptr [DATA]; mov eax, [DATA]"), 0x40490FDB, ""),
        (asm64("fninit; fild word ptr [DATA + 8]; fsqrt; fistp qword ptr [DATA]; mov rax, [DATA]"), 3, ""),
        (asm64("mov eax, 3; cvtsi2sd xmm0, eax; addsd xmm0, xmm0; cvttsd2si rax, xmm0"), 6, ""),
        (asm64("movdqu xmm0, [DATA]; paddd xmm0, xmm0; movq rax, xmm0"), 0, ""),
        (asm64("mov eax, 0x01020304; movd xmm0, eax; pshufd xmm1, xmm0, 0; movq rax, xmm1"), 0x0102030401020304, ""),
        (asm64("mov eax, 7; movd mm0, eax; paddd mm0, mm0; movd eax, mm0; emms"), 14, ""),
        (asm64("pcmpeqd xmm0, xmm0; pmovmskb eax, xmm0"), 0xFFFF, ""),
        (asm64("mov eax, 0xF0F1; movd xmm0, eax; pshufb xmm0, xmm0; movd eax, xmm0"), 0xF1F10000, "ssse3"),
        (asm64("mov eax, 5; pinsrd xmm0, eax, 1; pextrd eax, xmm0, 1"), 5, "sse41"),
        (asm64("mov edx, 0x12345678; xor eax, eax; crc32 eax, edx"), 0xFA745634, "sse42"),
        (asm64("mov edx, 0xF0F1; popcnt eax, edx"), 9, "popcnt"),
        (asm64("mov edx, 0x00010000; lzcnt eax, edx"), 15, "lzcnt"),
        (asm64("mov edx, 0x00010000; tzcnt eax, edx"), 16, "bmi1"),
        (asm64("mov edx, 0xFF; mov ecx, 0x0F; andn eax, ecx, edx"), 0xF0, "bmi1"),
        (asm64("mov edx, 0xABCD; mov ecx, 0xFF00; pext eax, edx, ecx"), 0xAB, "bmi2"),
        (asm64("mov edx, 1; mov ecx, 5; shlx eax, edx, ecx"), 32, "bmi2"),
        (asm64("xor eax, eax; mov edx, 5; stc; adcx eax, edx"), 6, "adx"),
        (asm64("mov dword ptr [DATA], 0x11223344; movbe eax, [DATA]"), 0x44332211, "movbe"),
        (asm64("""
            xor eax, eax; xor edx, edx; mov ebx, 7; xor ecx, ecx; lock cmpxchg16b [DATA + 16]; mov rax, [DATA + 16]
        """), 7, "cx16"),
        (asm64("""
            xor eax, eax; xor edx, edx; mov ebx, 9; xor ecx, ecx; lock cmpxchg8b [DATA + 16]; mov rax, [DATA + 16]
        """), 9, ""),
        (asm64("rdtscp; xor eax, eax; test rcx, rcx; setz al"), 1, "rdtscp"),
        (asm64("mov eax, 5; mov edx, 6; lock xadd [DATA + 16], eax; mov eax, [DATA + 16]"), 5, ""),
        (asm64("mov eax, 0x01020304; bswap eax"), 0x04030201, ""),
        (asm64("mov eax, 0x80; mov edx, 0x1; shld eax, edx, 4"), 0x800, ""),
        (asm64("mov edx, 0x100; bsf eax, edx"), 8, ""),
        (asm64("mov edx, 0x100; bsr eax, edx"), 8, ""),
        (asm64("mov eax, 1; xor ecx, ecx; cmp ecx, 1; cmovb eax, ecx"), 0, ""),
        (asm64("push rbp; mov rbp, rsp; enter 16, 0; leave; mov rax, rbp; sub rax, rsp; pop rbp"), 0, ""),
        (asm64("mov ebx, DATA; mov byte ptr [DATA + 5], 0x42; mov eax, 5; xlatb"), 0x42, ""),
        (asm64("mov eax, 0x80; cbw; cwde; cdqe; shr rax, 32"), 0xFFFFFFFF, ""),
        (asm64("stc; setc al; movzx eax, al"), 1, ""),
        (asm64("mov eax, 0xD500; sahf; lahf; shr eax, 8; and eax, 0xFF"), 0xD7, "lahf"),
        (asm64("mov ecx, 3; xor eax, eax; again: inc eax; loopne again"), 3, ""),
        (asm64("xor ecx, ecx; mov eax, 1; jrcxz over; mov eax, 2; over:"), 1, ""),
        (asm64("mov rax, -1; mov rdx, 2; mul rdx; mov rax, rdx"), 1, ""),
        (asm64("mov rax, -6; cqo; mov rcx, 2; idiv rcx; neg rax"), 3, ""),
        (asm64("imul rax, rcx, 5; mov ecx, 3; imul eax, ecx, 7"), 21, ""),
        (asm64("fxsave [DATA]; movzx eax, word ptr [DATA]"), 0x37F, ""),
        (asm64("stmxcsr [DATA]; mov eax, [DATA]"), 0x1F80, ""),
        (asm64("mfence; lfence; sfence; clflush [DATA]; prefetcht0 [DATA]; mov eax, 1"), 1, ""),
        (asm64("mov eax, 4; bt eax, 2; setc al"), 1, ""),
        (asm64("mov edx, 33; bts dword ptr [DATA + 16], edx; mov eax, [DATA + 20]"), 2, ""),
        (asm64("mov eax, 0x1234; mov [DATA + 16], eax; mov esi, DATA + 16; lodsw; movzx eax, ax"), 0x1234, ""),
        (asm64("mov esi, DATA; mov edi, DATA + 16; mov ecx, 4; repe cmpsb; mov eax, ecx"), 0, ""),
        (asm64("mov edi, DATA; mov ecx, 16; xor eax, eax; repe scasb; mov eax, ecx"), 7, ""),
        (asm64("mov eax, 0x77; nop; .byte 0x0F, 0x1F, 0x44, 0, 0; endbr64"), 0x77, ""),
    ],
    ids=[
        "fadd", "fldpi", "fsqrt", "addsd", "paddd", "pshufd", "mmx", "pmovmskb", "pshufb", "pinsrd", "crc32", "popcnt",
        "lzcnt", "tzcnt", "andn", "pext", "shlx", "adcx", "movbe", "cmpxchg16b", "cmpxchg8b", "rdtscp", "xadd", "bswap",
        "shld", "bsf", "bsr", "cmov", "enter", "xlat", "cbw", "setc", "lahf", "loopne", "jrcxz", "mul", "idiv", "imul",
        "fxsave", "stmxcsr", "fences", "bt", "bts", "lods", "cmps", "scas", "long-nop",
    ],
)  # fmt: skip
def test_of_64_bit_mode(start, ring, code, wanted, needs):
    guest = start(LONG, code + b"\x0f\x0b", ring=ring)
    if needs and needs not in features(guest):
        pytest.skip(f"CPUID has no {needs}")
    guest.cpu.change(cr4=guest.cpu.sregs.cr4 | SSE)
    guest.poke(DATA + 8, 9)
    assert guest.trace() == [Trapped(6)]
    assert guest.regs.rax & 0xFFFFFFFFFFFFFFFF == wanted


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (asm32("mov al, 0x79; add al, 0x28; daa"), 0x07),
        (asm32("mov al, 0x12; sub al, 0x05; das"), 0x07),
        (asm32("mov ax, 0x0009; add al, 6; aaa; and eax, 0xFFFF"), 0x0105),
        (asm32("mov al, 53; aam; and eax, 0xFFFF"), 0x0503),
        (asm32("mov ax, 0x0503; aad; and eax, 0xFFFF"), 53),
        (asm32("stc; .byte 0xD6; movzx eax, al"), 0xFF),
        (asm32("mov eax, 5; pushad; mov eax, 9; popad"), 5),
        (asm32("push es; pop eax"), 0x20),
        (asm32("mov eax, 0x33; mov ecx, 0x18; arpl ax, cx; and eax, 0xFFFF"), 0x33),
        (asm32("les eax, [DATA]; mov eax, es"), 0x20),
        (asm32("fninit; fld1; fadd st, st; fistp dword ptr [DATA]; mov eax, [DATA]"), 2),
        (asm32("inc eax; dec ecx; mov eax, ecx"), 0xFFFFFFFF),
        (asm32("smsw eax; and eax, 1"), 1),
    ],
    ids=["daa", "das", "aaa", "aam", "aad", "salc", "pushad", "push-es", "arpl", "les", "x87", "inc-dec", "smsw"],
)
def test_of_32_bit_mode(start, code, wanted):
    guest = start(PROTECTED, code + b"\xf4")
    guest.poke(DATA, 0x20 << 32 | 0x1234)
    assert guest.trace() == [HLT]
    low = 0xFF if wanted < 0x100 else 0xFFFFFFFF
    assert guest.regs.rax & low == wanted


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (asm16("mov ax, 5; pusha; mov ax, 9; popa"), 5),
        (asm16("lds si, [DATA]; mov ax, ds"), 0x0020),
        (asm16("mov eax, 0x12345678; shr eax, 16"), 0x1234),
        (asm16("mov ebx, DATA; movzx ax, byte ptr [ebx + 4]"), 0x20),
        (asm16("mov bx, 0x4000; mov si, 4; mov ax, [bx + si]"), 0x0020),
        (asm16("mov bp, 0x4004; mov ax, [bp]"), 0x0020),
        (asm16("sgdt [DATA + 16]; mov ax, 7"), 7),
        (asm16("fninit; fld1; fadd st, st; fistp dword ptr [DATA]; mov ax, [DATA]"), 2),
    ],
    ids=["pusha", "lds", "32-bit-operand", "32-bit-address", "bx-si", "bp", "sgdt", "x87"],
)
def test_of_real_mode(start, code, wanted):
    guest = start(REAL, code + b"\xf4")
    guest.poke(DATA, 0x20 << 32 | 0x1234)
    if b"\xc5" in code:  # LDS wants the segment in the upper half
        guest.poke(DATA, 0x20 << 16 | 0x1234)
    assert guest.trace() == [HLT]
    assert guest.regs.rax & 0xFFFF == wanted


@pytest.mark.parametrize(
    ("code", "needs"),
    [
        (asm64("xor ecx, ecx; xgetbv; and eax, 1"), "xsave"),
        (
            asm64("mov eax, 7; xor edx, edx; xor ecx, ecx; xsetbv; vpxor ymm0, ymm0, ymm0; vmovd eax, xmm0; inc eax"),
            "avx",
        ),
        (asm64("mov eax, 3; xor edx, edx; xsave [SPARE]; mov eax, 1"), "xsave"),
    ],
    ids=["xgetbv", "avx", "xsave"],
)
def test_extended_state(start, code, needs):
    guest = start(LONG, code + b"\xf4")
    if needs not in features(guest):
        pytest.skip(f"CPUID has no {needs}")
    guest.cpu.change(cr4=guest.cpu.sregs.cr4 | AVX)
    assert guest.trace() == [HLT]
    assert guest.regs.rax == 1


@pytest.mark.parametrize(
    ("code", "cr4", "needs"),
    [
        (
            asm64("mov eax, 0x4000; wrfsbase rax; rdfsbase rbx; mov eax, ebx; sub eax, 0x3FFF"),
            bits.CR4_FSGSBASE,
            "fsgsbase",
        ),
        (asm64("xor eax, eax; invpcid rax, [DATA + 32]; inc eax"), 0, "invpcid"),
        (asm64("stac; clac; mov eax, 1"), bits.CR4_SMAP, "smap"),
        (asm64("wbinvd; mov eax, 1"), 0, ""),
        (
            asm64("mov rax, cr0; mov cr0, rax; mov rax, cr4; mov cr4, rax; mov rax, cr3; mov cr3, rax; mov eax, 1"),
            0,
            "",
        ),
        (asm64("clts; mov eax, 1"), 0, ""),
        (asm64("smsw eax; lmsw ax; and eax, 1"), 0, ""),
        (asm64("clflushopt [DATA]; mov eax, 1"), 0, "clflushopt"),
        (asm64("mov ecx, 0xC0000103; mov eax, 1; xor edx, edx; wrmsr; rdtscp; mov eax, ecx"), 0, "rdtscp"),
        (asm64("rdrand eax; setc al; movzx eax, al"), 0, "rdrand"),
    ],
    ids=[
        "wrfsbase",
        "invpcid",
        "stac",
        "wbinvd",
        "cr0-cr4",
        "clts",
        "lmsw",
        "clflushopt",
        "tsc-aux",
        "rdrand",
    ],
)
def test_of_ring_0(start, code, cr4, needs):
    guest = start(LONG, code + b"\xf4")
    if needs and needs not in features(guest):
        pytest.skip(f"CPUID has no {needs}")
    if cr4 == bits.CR4_SMAP:
        for page in range(64):
            guest.set_page(page << 12, page << 12 | 3)
    guest.cpu.change(cr4=guest.cpu.sregs.cr4 | cr4)
    assert guest.trace() == [HLT]
    assert guest.regs.rax == 1


@pytest.mark.parametrize(
    "code",
    [
        asm64(".byte 0x0F, 0x0A"),
        asm64(".byte 0x06"),
        asm64(".byte 0xF0; nop"),
        asm64(".byte 0x0F, 0xFF"),
        asm64(".byte 0x9A"),
    ],
    ids=["no-opcode", "push-es", "lock-nop", "ud0", "far-call"],
)
def test_undefined_in_64_bit_mode(start, code):
    guest = start(LONG, code)
    assert guest.trace() == [Trapped(6)]
    assert guest.cpu.trap().offset == 0


def test_an_instruction_of_more_than_15_bytes(start):
    assert start(LONG, b"\x66" * 15 + b"\x90").trace() == [Trapped(13, 0)]
    assert start(LONG, b"\x66" * 14 + b"\x90\xf4").trace() == [HLT]
