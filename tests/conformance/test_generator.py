"""The generator of the differential tests makes what it means to make."""

from __future__ import annotations

import capstone
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig.encode import Encoder, Mem, Reg
from rig.generator import Program, programs
from rig.layout import CODE


def disassemble(program: Program) -> list[str]:
    mode = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}[program.bits]
    engine = capstone.Cs(capstone.CS_ARCH_X86, mode)
    return [f"{i.address:#x}: {i.mnemonic} {i.op_str}" for i in engine.disasm(bytes(program.code), CODE)]


@pytest.mark.parametrize("bits", [16, 32, 64])
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_byte_belongs_to_an_instruction_and_the_last_is_hlt(bits, data):
    program = data.draw(programs(bits))
    mode = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}[bits]
    engine = capstone.Cs(capstone.CS_ARCH_X86, mode)
    instructions = list(engine.disasm(bytes(program.code), CODE))
    assert sum(instruction.size for instruction in instructions) == len(program.code)
    assert instructions[-1].mnemonic == "hlt"


@pytest.mark.parametrize(
    ("bits", "code", "text"),
    [
        (16, Encoder(16).op(4, 0x00, 1, Mem(0x4010)), "add dword ptr [0x4010], ecx"),
        (16, Encoder(16).op(1, 0x88, 3, Mem(8, hole=True)), "mov byte ptr es:[8], bl"),
        (32, Encoder(32).op(2, 0x80, 4, Reg(6), b"\x34\x12"), "and si, 0x1234"),
        (32, Encoder(32).op(4, 0x88, 0, Mem(disp=-8)), "mov dword ptr [ebp - 8], eax"),
        (64, Encoder(64).op(1, 0x00, 6, Reg(7)), "add dil, sil"),
        (64, Encoder(64).op(8, 0x2A, 9, Mem(0x4008)), "sub r9, qword ptr [0x4008]"),
        (64, Encoder(64).move(10, 0x1122334455667788, 8), "movabs r10, 0x1122334455667788"),
        (64, Encoder(64).op(4, b"\x0f\xb6", 8, Reg(5), byte_rm=True), "movzx r8d, bpl"),
    ],
)
def test_encodings(bits, code, text):
    program = Program(bits)
    program.add(code)
    assert disassemble(program) == [f"{CODE:#x}: {text}"]
