"""The instructions that the engine can't carry out alone: found in each new translation, before it first runs
(native/instructions.c). Source of the opcodes: SDM vol. 2, appendix "Opcode Map"."""

from __future__ import annotations

from minivmm.soft.plain.constants import (
    CR0_PE,
    CTL_REMOVE_CACHE,
    DESC_P,
    HF_CODE32,
    HF_CODE64,
    HOOK_CODE,
    IF,
    INSTRUCTION,
    MASK64,
    PAGE,
    PREFIXES,
    RF,
    VM,
)
from minivmm.soft.plain.cpu import Cpu, ffi
from minivmm.soft.plain.paging import fetch

# INSN_*
(NONE, IN, OUT, INS, OUTS, HLT, RDMSR, WRMSR, CPUID, SYSCALL, SYSENTER, HYPERCALL, MOV_TO_CR, MOV_FROM_CR, MOV_TO_DR,
 MOV_FROM_DR, LMSW, XSETBV, ABSENT, IRET, UNKNOWN, BREAKPOINT, LOAD_SEGMENT, NULL_SEGMENT,
 ICEBP, PAUSE) = range(26)  # fmt: skip
CODE_PLAIN, CODE_LONG, CODE_SEGMENTED = range(3)  # … in real, long and other protected modes
LONGEST = 15  # bytes in an instruction

_ONE_BYTE = {
    **dict.fromkeys((0x6C, 0x6D), INS), **dict.fromkeys((0x6E, 0x6F), OUTS),
    **dict.fromkeys((0xE4, 0xE5, 0xEC, 0xED), IN), **dict.fromkeys((0xE6, 0xE7, 0xEE, 0xEF), OUT),
    0xF1: ICEBP, 0xF4: HLT,
}  # fmt: skip
_AFTER_0F = {
    0x05: SYSCALL, 0x21: MOV_FROM_DR, 0x23: MOV_TO_DR, 0x30: WRMSR, 0x32: RDMSR, 0x34: SYSENTER, 0xA2: CPUID,
}  # fmt: skip
# VMCALL, VMMCALL; MONITOR, MWAIT: CPUID has none
_AFTER_0F01 = {0xC1: HYPERCALL, 0xD9: HYPERCALL, 0xC8: ABSENT, 0xC9: ABSENT, 0xD1: XSETBV}
# POP and MOV to a segment register, LES, LDS; far CALL, JMP, RET; IRET
_LOADS_SEGMENT = b"\x07\x17\x1f\x8e\xc4\xc5\x9a\xea\xca\xcb\xcf"
_LOADS_SEGMENT_0F = b"\xa1\xa9\xb2\xb4\xb5"
_STI, _POPF, _IRET, _SYSRET = 0xFB, 0x9D, 0xCF, 0x07


def _kind_of_0f(code: bytes) -> int:
    modrm = code[1] if len(code) > 1 else 0
    field = modrm >> 3 & 7
    match code[0]:
        case 0x01:
            return _AFTER_0F01.get(modrm, LMSW if field == 6 else NONE)
        case 0x20:
            return MOV_FROM_CR if field == 0 else NONE  # CR0, or CR8 with REX.R
        case 0x22:
            return NONE if field == 3 else MOV_TO_CR  # CR3 goes at full speed
    return _AFTER_0F.get(code[0], NONE)


def loads_segment(code: bytes) -> bool:
    """Whether it loads a segment register: in protected mode, limits may matter from then on (segment_limits.py)."""
    if code[0] == 0xFF:  # far CALL and JMP through memory
        return len(code) > 1 and code[1] >> 3 & 7 in (3, 5)
    if code[0] == 0x0F:
        return len(code) > 1 and code[1] in _LOADS_SEGMENT_0F
    return code[0] in _LOADS_SEGMENT


def is_avx(code: bytes, mode: int) -> bool:
    """A VEX prefix before anything but BMI: the engine takes AVX for SSE, where CPUID says that there is none."""
    if len(code) < 3 or code[0] not in (0xC4, 0xC5) or mode == CODE_PLAIN or (mode != CODE_LONG and code[1] < 0xC0):
        return False
    opcode_map, opcode = code[1] & 0x1F, code[3] if len(code) > 3 else 0
    is_bmi = (opcode_map, opcode) == (3, 0xF0) or (opcode_map == 2 and opcode in (0xF2, 0xF3, 0xF5, 0xF6, 0xF7))
    return code[0] == 0xC5 or not is_bmi


def code_mode(cpu: Cpu) -> int:
    if cpu.env.hflags & HF_CODE64:
        return CODE_LONG
    return CODE_SEGMENTED if cpu.c.cr0 & CR0_PE and not cpu.env.rflags & VM else CODE_PLAIN


def kind_of(code: bytes, mode: int) -> int:
    """What the instruction at the front of `code` is to us."""
    plain = NONE
    for at, byte in enumerate(code):
        rest = code[at:]
        if byte in (0x64, 0x65) and mode == CODE_SEGMENTED:
            # FS and GS are often null where segments matter: an access by them may be a fault.
            plain = NULL_SEGMENT
        if byte in PREFIXES or (mode == CODE_LONG and byte & 0xF0 == 0x40):
            continue
        if byte == 0xF0:  # LOCK makes all of them #UD, but for AMD's way to CR8
            return _kind_of_0f(rest[2:]) if len(rest) > 3 and rest[1] == 0x0F and rest[2] & 0xFD == 0x20 else NONE
        if byte in _ONE_BYTE:
            return _ONE_BYTE[byte]
        if byte == 0x90 and at and code[at - 1] == 0xF3:  # F3 makes NOP a PAUSE
            return PAUSE
        if is_avx(rest, mode):
            return ABSENT
        if mode == CODE_SEGMENTED and loads_segment(rest):
            return LOAD_SEGMENT
        if byte == _IRET:
            return IRET  # NMIs may come again
        if byte == 0x0F and len(rest) > 1:
            return _kind_of_0f(rest[1:]) or plain
        return plain
    return NONE


def may_set_if(code: bytes, long_code: bool) -> bool:
    """Whether it may set RFLAGS.IF: STI, POPF, IRET, SYSRET."""
    for at, byte in enumerate(code):
        if byte in PREFIXES or (long_code and byte & 0xF0 == 0x40):
            continue
        return byte in (_STI, _POPF, _IRET) or code[at : at + 2] == bytes((0x0F, _SYSRET))
    return False


# ---- disassembly: where the instructions begin ----


class Decoder:
    """Capstone on one piece of code, for the mode the CPU is in; `env` must be up to date."""

    def __init__(self, cpu: Cpu, code: bytes) -> None:
        flags = cpu.env.hflags
        self._handle = cpu.library.cs_handles[2 if flags & HF_CODE64 else 1 if flags & HF_CODE32 else 0]
        self._next = cpu.calls.cs_disasm_iter
        self._insn = cpu.c.cs_insn
        self._code = ffi.new("uint8_t[]", code)
        self._size = len(code)
        self._at, self._left, self._address = ffi.new("uint8_t *[1]"), ffi.new("size_t[1]"), ffi.new("uint64_t[1]")

    def length(self, at: int, address: int) -> int:
        """The length of the instruction `at` bytes on, or 0 where Capstone does not know it."""
        self._at[0], self._left[0], self._address[0] = self._code + at, self._size - at, address & MASK64
        if not self._next(self._handle, self._at, self._left, self._address, self._insn):
            return 0
        return int(ffi.cast("struct decoded *", self._insn).size)


def linear_pc(cpu: Cpu) -> int:
    """CS:RIP as a linear address."""
    env = cpu.look()
    return int(env.cs.base + env.rip & (MASK64 if cpu.long else 0xFFFF_FFFF))


def unreached(cpu: Cpu) -> int:
    """The instructions of the present block from CS:RIP on: counted, and not reached yet."""
    start = linear_pc(cpu)
    if not cpu.block_start <= start < cpu.block_end:
        return 0
    code = fetch(cpu, start, cpu.user_mode(), min(cpu.block_end - start, PAGE))
    decoder, at, insns = Decoder(cpu, code), 0, 0
    while at < len(code) and (length := decoder.length(at, start + at)):
        at += length
        insns += 1
    return insns


def scan(cpu: Cpu, pc: int, size: int) -> int:
    """Goes through the block of code [pc, pc + size) and notes the instructions that need a hook and have none yet.
    Returns how many instructions there are."""
    env = cpu.look()
    mode, long_code = code_mode(cpu), bool(env.hflags & HF_CODE64)
    code = fetch(cpu, pc, cpu.user_mode(), min(size, PAGE + 16))
    decoder = Decoder(cpu, code)
    at = count = 0
    while at < len(code):
        length = decoder.length(at, pc + at)
        insn = code[at : at + (length or LONGEST)]
        # What Capstone can't read may hide what follows: we stop there too, step, and look at the rest anew.
        wanted = not length or kind_of(insn, mode) or (not cpu.counting and may_set_if(insn, long_code))
        if wanted and pc + at not in cpu.sites:
            cpu.found.append(pc + at)
        if not length:
            break
        at += length
        count += 1
    return count


def soft_peek(cpu: Cpu) -> int:
    """What lies at CS:RIP, into kind, length, insn and pc."""
    c, env = cpu.c, cpu.look()
    c.pc = env.cs.base + env.rip & (MASK64 if cpu.long else 0xFFFF_FFFF)
    code = fetch(cpu, c.pc, cpu.user_mode(), LONGEST)
    ffi.buffer(c.insn)[:] = code.ljust(16, b"\0")
    c.length = Decoder(cpu, code).length(0, c.pc) if code else 0
    c.kind = kind_of(code[: c.length], code_mode(cpu)) if c.length else UNKNOWN
    return int(c.kind)


# A guest that pauses so often waits for another vCPU, which waits for its turn.
MANY_PAUSES = 32


def _is_breakpoint(cpu: Cpu, pc: int) -> bool:
    return any(cpu.c.breakpoints[i] == pc for i in range(cpu.c.breakpoint_count))


def on_site(cpu: Cpu, pc: int) -> None:
    """The engine is about to carry out the instruction at `pc`, a linear address."""
    c, env = cpu.c, cpu.env
    if c.stepping:
        return
    soft_peek(cpu)
    if _is_breakpoint(cpu, pc) and not env.rflags & RF:  # RF lets one instruction run over it
        c.kind = BREAKPOINT
    if c.kind == PAUSE:
        c.pauses += c.watch_pause
        if not c.watch_pause or c.pauses % MANY_PAUSES:
            return
    if (
        c.kind == NONE
        or (c.kind == IRET and not c.watch_iret)
        or (c.kind == NULL_SEGMENT and env.fs.flags & DESC_P and env.gs.flags & DESC_P)
    ):
        # Other code lies here by now, or nobody asked. But somebody may wait for interrupts to be let in.
        waits = c.watch_if and not cpu.counting and not env.rflags & IF
        cpu.passes_window = waits and may_set_if(ffi.buffer(c.insn)[: c.length], bool(env.hflags & HF_CODE64))
        if not cpu.passes_window:
            return
    cpu.stop(INSTRUCTION)


def hook_found(cpu: Cpu) -> None:
    """Hooks what the last scan found, and drops the translation that was made without those hooks."""
    found, cpu.found = cpu.found, []
    hook = ffi.new("size_t *")
    for pc in found:
        cpu.calls.uc_hook_add(
            cpu.uc, hook, HOOK_CODE, cpu.on_site, cpu.c, ffi.cast("uint64_t", pc), ffi.cast("uint64_t", pc)
        )
        cpu.sites.add(pc)
        cpu.control(CTL_REMOVE_CACHE, pc, pc + 1)


def soft_add_site(cpu: Cpu, pc: int) -> None:
    """Has the engine stop before `pc`, a linear address, as it does before the instructions that need us."""
    if pc not in cpu.sites:
        cpu.found = [pc]
        hook_found(cpu)
