"""Random programs whose outcome the architecture defines, for differential tests.

A program is a straight line of instructions with short jumps forward and small loops. It works on the general registers
(but RSP and RBP), on one page at DATA, on the stack, on a port and on the MMIO hole. Some instructions leave flags
undefined (SDM vol. 2); the generator keeps account of which are undefined at each point, never generates an instruction
that reads such a flag, and tells which to leave out of the comparison at the end. Division may fault: then the program
ends there, in the handler's stub.

Not generated: what kvm_pvm's emulator lacks (known_differences.py), and what differs between vendors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

from rig.encode import RBP, RSP, Encoder, Mem, Reg
from rig.layout import DATA, HOLE

CF, PF, AF, ZF, SF, DF, OF = 1, 4, 0x10, 0x40, 0x80, 0x400, 0x800
ARITHMETIC = CF | PF | AF | ZF | SF | OF
# What each condition of Jcc, SETcc and CMOVcc reads: O, B, Z, BE, S, P, L, LE, each followed by its opposite.
CONDITION = (OF, CF, ZF, CF | ZF, SF, PF, SF | OF, SF | OF | ZF)
# The methods of _Maker, the common ones more than once.
KINDS = (
    *("arithmetic", "arithmetic", "arithmetic", "immediate", "immediate", "unary", "move", "extend", "test", "shift"),
    *("shift", "double_shift", "multiply", "three_operands", "divide", "bit", "scan", "set", "cmov", "exchange"),
    *("compare_exchange", "convert", "flags_in_ah", "single", "lea", "stack", "string", "jump", "loop", "port_out"),
    *("port_in", "hole"),
)
SKIPPABLE = ("arithmetic", "immediate", "move", "unary", "shift", "extend")  # what a jump may pass over
PORT = 0x77
BASE = DATA + 0x400  # what RBP holds
SLOTS = 32  # where memory operands lie: at 8 times 0 … 31, plus 0 … 3, from DATA on


@dataclass
class Program:
    """Machine code that ends with HLT, and what is undefined behind it."""

    bits: int
    code: bytearray = field(default_factory=bytearray)
    undefined: int = 0
    depth: int = 0  # words on the stack

    def add(self, code: bytes, *, undefines: int = 0, defines: int = 0) -> None:
        self.code += code
        self.undefined = self.undefined & ~defines | undefines


@st.composite
def programs(draw: st.DrawFn, bits: int, longest: int = 25) -> Program:
    """Programs for 16, 32 or 64-bit code."""
    maker = _Maker(draw, Encoder(bits), Program(bits))
    for _ in range(draw(st.integers(1, longest))):
        maker.instruction(draw(st.sampled_from(KINDS)))
    maker.program.add(b"\xf4")
    return maker.program


@dataclass
class _Maker:
    draw: st.DrawFn
    enc: Encoder
    program: Program

    def instruction(self, kind: str) -> None:
        getattr(self, kind)()

    # ---- operands ----

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def size(self, *allowed: int) -> int:
        return self.draw(st.sampled_from([size for size in self.enc.sizes if not allowed or size in allowed]))

    def register(self, size: int) -> int:
        """Any register but RSP and RBP. Byte registers 4 … 7 are AH … BH outside 64-bit code: they are left out."""
        top = 15 if self.enc.bits == 64 else 3 if size == 1 else 7
        return self.draw(st.integers(0, top).filter(lambda number: number not in (RSP, RBP)))

    def memory(self) -> Mem:
        if self.draw(st.booleans()):
            return Mem(disp=self.number(-16, 15) * 8 + self.number(0, 3))
        return Mem(DATA + self.number(0, SLOTS - 1) * 8 + self.number(0, 3))

    def operand(self, size: int) -> Reg | Mem:
        return self.memory() if self.number(0, 2) == 0 else Reg(self.register(size))

    def value(self, size: int) -> int:
        top = 1 << 8 * size
        return self.draw(st.sampled_from([0, 1, top - 1, top // 2, top // 2 - 1]) | st.integers(0, top - 1))

    def condition(self) -> int:
        """A condition whose flags are defined."""
        usable = [code for code in range(16) if not CONDITION[code // 2] & self.program.undefined]
        return self.draw(st.sampled_from(usable)) if usable else -1

    def add(self, code: bytes, undefines: int = 0, defines: int = 0) -> None:
        self.program.add(code, undefines=undefines, defines=defines)

    # ---- instructions ----

    def arithmetic(self) -> None:
        """ADD OR ADC SBB AND SUB XOR CMP, register with register or memory, both directions."""
        which, size = self._which(), self.size()
        opcode = which << 3 | self.draw(st.sampled_from([0, 2]))
        self.add(self.enc.op(size, opcode, self.register(size), self.operand(size)), *self._of(which))

    def immediate(self) -> None:
        which, size = self._which(), self.size()
        imm = self.enc.immediate(size, self.value(size))
        self.add(self.enc.op(size, 0x80, which, self.operand(size), imm), *self._of(which))

    def _which(self) -> int:
        """One of the eight; ADC and SBB (2, 3) only where CF is defined."""
        return self.draw(st.sampled_from([0, 1, 4, 5, 6, 7] + [2, 3] * (not self.program.undefined & CF)))

    @staticmethod
    def _of(which: int) -> tuple[int, int]:
        return (AF, ARITHMETIC) if which in (1, 4, 6) else (0, ARITHMETIC)

    def unary(self) -> None:
        """NOT, NEG, INC, DEC."""
        size = self.size()
        opcode, digit, defines = self.draw(
            st.sampled_from(
                [(0xF6, 2, 0), (0xF6, 3, ARITHMETIC), (0xFE, 0, ARITHMETIC & ~CF), (0xFE, 1, ARITHMETIC & ~CF)]
            )
        )
        self.add(self.enc.op(size, opcode, digit, self.operand(size)), 0, defines)

    def move(self) -> None:
        size = self.size()
        match self.number(0, 2):
            case 0:
                self.add(
                    self.enc.op(size, self.draw(st.sampled_from([0x88, 0x8A])), self.register(size), self.operand(size))
                )
            case 1:
                imm = self.enc.immediate(size, self.value(size))
                self.add(self.enc.op(size, 0xC6, 0, self.operand(size), imm))
            case _:
                size = self.size(2, 4, 8)
                self.add(self.enc.move(self.register(size), self.value(size), size))

    def extend(self) -> None:
        """MOVZX, MOVSX from bytes and words, MOVSXD."""
        size = self.size(2, 4, 8)
        opcode = self.draw(st.sampled_from([0xB6, 0xBE] + [0xB7, 0xBF] * (size > 2) + [0x63] * (size == 8)))
        if opcode == 0x63:
            self.add(self.enc.op(size, b"\x63", self.register(size), self.operand(4)))
            return
        is_byte = opcode in (0xB6, 0xBE)
        rm = self.operand(1 if is_byte else 2)
        self.add(self.enc.op(size, bytes([0x0F, opcode]), self.register(size), rm, byte_rm=is_byte))

    def test(self) -> None:
        size = self.size()
        if self.draw(st.booleans()):
            self.add(self.enc.op(size, 0x84, self.register(size), self.operand(size)), AF, ARITHMETIC)
        else:
            imm = self.enc.immediate(size, self.value(size))
            self.add(self.enc.op(size, 0xF6, 0, self.operand(size), imm), AF, ARITHMETIC)

    def shift(self) -> None:
        """ROL ROR RCL RCR SHL SHR SAR by one, by an immediate, by CL."""
        size, digit = self.size(), self.draw(st.sampled_from([0, 1, 2, 3, 4, 5, 7]))
        if digit in (2, 3) and self.program.undefined & CF:
            return
        rotates = digit < 4
        form, count = self.draw(st.sampled_from([(0xD0, 1), (0xC0, None), (0xD2, -1)]))
        imm = b""
        if count is None:
            count = self.number(1, 8 * size - 1)
            imm = bytes([count])
        undefined = 0 if rotates else AF
        if count != 1:
            undefined |= OF
        if count == -1 and not rotates and size < 4:
            undefined |= CF  # a count beyond the operand's width
        if count == -1:
            # A count of zero leaves the flags as they are, so nothing becomes defined.
            self.add(self.enc.op(size, form, digit, self.operand(size)), undefined)
            return
        defined = CF | OF if rotates else ARITHMETIC
        self.add(self.enc.op(size, form, digit, self.operand(size), imm), undefined, defined)

    def double_shift(self) -> None:
        """SHLD, SHRD by an immediate."""
        size, count = self.size(2, 4, 8), self.number(1, 15)
        opcode = bytes([0x0F, self.draw(st.sampled_from([0xA4, 0xAC]))])
        undefined = AF | (OF if count > 1 else 0)
        code = self.enc.op(size, opcode, self.register(size), self.operand(size), bytes([count]))
        self.add(code, undefined, ARITHMETIC)

    def multiply(self) -> None:
        """MUL, IMUL with one operand, and IMUL with two."""
        size = self.size()
        if size > 1 and self.draw(st.booleans()):
            code = self.enc.op(size, b"\x0f\xaf", self.register(size), self.operand(size))
        else:
            code = self.enc.op(size, 0xF6, self.draw(st.sampled_from([4, 5])), self.operand(size))
        self.add(code, SF | ZF | AF | PF, CF | OF)

    def three_operands(self) -> None:
        size = self.size(2, 4, 8)
        imm = self.enc.immediate(size, self.value(size))
        self.add(self.enc.op(size, b"\x69", self.register(size), self.operand(size), imm), SF | ZF | AF | PF, CF | OF)

    def divide(self) -> None:
        """DIV, IDIV. Half of them by a small register divisor with a zero upper half, so that not all fault."""
        size, digit = self.size(2, 4, 8), self.draw(st.sampled_from([6, 7]))
        if self.draw(st.booleans()):
            self.add(self.enc.move(2, 0, size))
            self.add(self.enc.move(3, self.number(1, 99), size))
            self.add(self.enc.op(size, 0xF6, 6, Reg(3)), ARITHMETIC)
        else:
            self.add(self.enc.op(size, 0xF6, digit, self.operand(size)), ARITHMETIC)

    def bit(self) -> None:
        """BT BTS BTR BTC with an immediate."""
        size = self.size(2, 4, 8)
        code = self.enc.op(
            size, b"\x0f\xba", self.number(4, 7), self.operand(size), bytes([self.number(0, 8 * size - 1)])
        )
        self.add(code, OF | SF | AF | PF, CF)

    def scan(self) -> None:
        """BSF, BSR of a source that is not zero: else the destination would be undefined."""
        size = self.size(2, 4, 8)
        source = self.register(size)
        self.add(self.enc.op(size, 0x80, 1, Reg(source), self.enc.immediate(size, 0x100)), AF, ARITHMETIC)
        opcode = bytes([0x0F, self.draw(st.sampled_from([0xBC, 0xBD]))])
        self.add(self.enc.op(size, opcode, self.register(size), Reg(source)), CF | OF | SF | AF | PF, ZF)

    def set(self) -> None:
        if (condition := self.condition()) >= 0:
            self.add(self.enc.op(1, bytes([0x0F, 0x90 | condition]), 0, self.operand(1)))

    def cmov(self) -> None:
        size = self.size(2, 4, 8)
        if (condition := self.condition()) >= 0:
            self.add(self.enc.op(size, bytes([0x0F, 0x40 | condition]), self.register(size), self.operand(size)))

    def exchange(self) -> None:
        """XCHG, XADD, BSWAP."""
        size = self.size()
        match self.number(0, 2):
            case 0:
                self.add(self.enc.op(size, 0x86, self.register(size), self.operand(size)))
            case 1:
                opcode = bytes([0x0F, 0xC0 | (size > 1)])
                self.add(self.enc.op(size, opcode, self.register(size), self.operand(size)), 0, ARITHMETIC)
            case _:
                size, register = self.size(4, 8), self.register(4)
                self.add(self.enc.prefixes(size, 0, Reg(register)) + bytes([0x0F, 0xC8 | register & 7]))

    def compare_exchange(self) -> None:
        size = self.size()
        opcode = bytes([0x0F, 0xB0 | (size > 1)])
        self.add(self.enc.op(size, opcode, self.register(size), self.operand(size)), 0, ARITHMETIC)

    def convert(self) -> None:
        """CBW CWDE CDQE, CWD CDQ CQO."""
        self.add(self.enc.prefixes(self.size(2, 4, 8)) + self.draw(st.sampled_from([b"\x98", b"\x99"])))

    def flags_in_ah(self) -> None:
        if self.draw(st.booleans()):
            self.add(b"\x9e", 0, ARITHMETIC & ~OF)  # SAHF
        elif not self.program.undefined & ~OF:
            self.add(b"\x9f")  # LAHF

    def single(self) -> None:
        """CLC, STC, CMC, NOP."""
        code, defines = self.draw(st.sampled_from([(b"\xf8", CF), (b"\xf9", CF), (b"\xf5", 0), (b"\x90", 0)]))
        self.add(code, 0, defines)

    def lea(self) -> None:
        size = self.size(2, 4, 8)
        self.add(self.enc.op(size, b"\x8d", self.register(size), self.memory()))

    def stack(self) -> None:
        """PUSH, POP, and PUSHF where every flag is defined."""
        choice = self.number(0, 2)
        if choice == 0 and self.program.depth:
            self.program.depth -= 1
            self.add(self.enc.pop(self.register(4)))
        elif choice == 1 and not self.program.undefined:
            self.program.depth += 1
            self.add(b"\x9c")
        else:
            self.program.depth += 1
            self.add(self.enc.push(self.register(4)))

    def string(self) -> None:
        """MOVS STOS LODS SCAS CMPS within the page, some repeated, in either direction."""
        size = self.size()
        word = self.enc.word
        self.add(self.enc.move(6, DATA + 0x200 + self.number(0, 64), word))
        self.add(self.enc.move(7, DATA + 0x300 + self.number(0, 64), word))
        self.add(self.enc.move(1, self.number(0, 5), word))
        down = self.draw(st.booleans())
        opcode, flags = self.draw(
            st.sampled_from([(0xA4, 0), (0xAA, 0), (0xAC, 0), (0xAE, ARITHMETIC), (0xA6, ARITHMETIC)])
        )
        repeat = self.draw(st.sampled_from([b"", b"\xf3"] + [b"\xf2"] * (opcode in (0xA6, 0xAE))))
        code = repeat + self.enc.prefixes(size) + bytes([opcode | (size > 1)])
        # A repeat count of zero leaves the flags as they are.
        self.add((b"\xfd" if down else b"\xfc") + code + b"\xfc", 0, flags if not repeat else 0)

    def jump(self) -> None:
        """Jcc over one to three instructions. What either way leaves undefined is undefined behind."""
        if (condition := self.condition()) < 0:
            return
        self._skippable(bytes([0x70 | condition]))

    def _skippable(self, jump: bytes) -> None:
        before = self.program.undefined
        outer, self.program = self.program, Program(self.enc.bits, undefined=before)
        for _ in range(self.number(1, 3)):
            self.instruction(
                self.draw(st.sampled_from(("arithmetic", "immediate", "move", "unary", "shift", "extend")))
            )
        body, self.program = self.program, outer
        self.add(jump + bytes([len(body.code)]) + body.code, before | body.undefined)

    def loop(self) -> None:
        """MOV CX, 1 … 4; a body that leaves CX alone; LOOP."""
        register = self.draw(st.sampled_from([0, 2, 3]))
        size = self.size(2, 4, 8)
        self.add(self.enc.move(1, self.number(1, 4), self.enc.word))
        head = len(self.program.code)
        self.add(self.enc.op(size, 0x00, register, self.memory()), 0, ARITHMETIC)
        self.add(self.enc.op(size, 0xFE, 0, Reg(register)), 0, ARITHMETIC & ~CF)
        self.add(b"\xe2" + bytes([(head - len(self.program.code) - 2) & 0xFF]))

    def port_out(self) -> None:
        size = self.size(1, 2, 4)
        self.add(self.enc.prefixes(size) + bytes([0xE6 | (size > 1), PORT]))

    def port_in(self) -> None:
        size = self.size(1, 2, 4)
        self.add(self.enc.prefixes(size) + bytes([0xE4 | (size > 1), PORT]))

    def hole(self) -> None:
        """Loads and stores in the MMIO hole, and an ADD there. In 16-bit code ES holds the hole's segment."""
        size = self.size()
        offset = self.number(0, 15) * 8
        where = Mem((0 if self.enc.bits == 16 else HOLE) + offset, hole=True)
        opcode, flags = self.draw(st.sampled_from([(0x88, 0), (0x8A, 0), (0x00, ARITHMETIC)]))
        self.add(self.enc.op(size, opcode, self.register(size), where), 0, flags)
