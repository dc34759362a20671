"""The hooks in Python say the same as those in C: every function, every number, and what guests see of them.

This file is also a program: with MINIVMM_FFI=abi it runs the guests that come in on standard input, one a line.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig import LONG, MODES, PROTECTED, REAL, WIDTH, Guest, asm, asm16, asm32, asm64
from rig.layout import DATA, SPARE

from minivmm.kvm import ioctls as io
from minivmm.kvm.calls import struct
from minivmm.soft import binding, engine
from minivmm.soft.backend import SoftBackend
from minivmm.soft.build_native import FOLDER, FUNCTIONS
from minivmm.soft.emulation.kinds import Kind
from minivmm.soft.plain import constants, lib
from minivmm.soft.plain import instructions as plain_instructions

ROOT = Path(__file__).resolve().parents[2]
needs_both = pytest.mark.skipif(not binding.COMPILED, reason="the hooks are not compiled here")

# ---- the same functions and numbers ----


def test_it_offers_every_function_of_the_compiled_one():
    names = set(re.findall(r"\b(soft_\w+)\(", FUNCTIONS))
    assert len(names) > 15
    assert {name for name in vars(lib) if callable(getattr(lib, name))} == names


def enumerations(file: str) -> dict[str, int]:
    """The enum constants of a file of native/."""
    text = re.sub(r"/\*.*?\*/", "", (FOLDER / file).read_text(), flags=re.DOTALL)
    found: dict[str, int] = {}
    for body in re.findall(r"enum\s*{(.*?)}", text, flags=re.DOTALL):
        value = -1
        for part in body.split(","):
            name, _, given_value = (word.strip() for word in part.partition("="))
            value = eval(given_value) if given_value else value + 1
            found[name] = value
    return found


def test_its_numbers_are_those_of_the_c_text():
    engine_h = enumerations("engine.h")
    for name, value in engine_h.items():
        ours = name.removeprefix("SOFT_").removeprefix("ACCESS_").replace("WINDOW_", "")
        ours = {"NONE": "NO_WINDOW"}.get(ours, ours)
        if not name.startswith(("CTL_", "UC_MEM_READ")) and name not in ("UC_MEM_WRITE_UNMAPPED",):
            assert getattr(constants, ours) == value, name
    for stop in engine.Stop:
        assert getattr(constants, stop.name) == engine_h[f"SOFT_{stop.name}"] == stop
    instructions_c = enumerations("instructions.c")
    kinds = {name.removeprefix("INSN_"): value for name, value in instructions_c.items() if name.startswith("INSN_")}
    assert {kind.name: kind.value for kind in Kind} == kinds
    assert {name: getattr(plain_instructions, name) for name in kinds} == kinds
    defines = dict(
        re.findall(r"#define (\w+) \(?(1u?l*(?: << \d+)?)\)?$", (FOLDER / "engine.h").read_text(), re.MULTILINE)
    )
    for name, value in defines.items():
        ours = getattr(constants, name.removeprefix("RFLAGS_"))
        assert ours == eval(re.sub(r"(?<=\d)u?l+|(?<=\d)u\b", "", value)), name
    assert len(defines) > 8


# ---- the same guests ----

WINDOW_OPEN, VECTOR = "KVM_EXIT_IRQ_WINDOW_OPEN", 0x41


def observe(case: dict[str, Any]) -> dict[str, Any]:
    """Runs one guest, and tells all that can be seen of it."""
    backend = SoftBackend(counting=case["counting"])
    guest = Guest(backend, case["mode"], bytes.fromhex(case["code"]), ring=case["ring"], rbx=7, rcx=9, rbp=DATA + 0x80)
    try:
        if case["mode"] == LONG:
            guest.set_page(SPARE, 0)
        guest.cpu.page.c.request_interrupt_window = case["window"]
        events: list[str] = []
        for _ in range(4):
            seen = [repr(event) for event in guest.trace(range(1, 200), past_traps=1)]
            events += [*seen, hex(guest.regs.rip)]
            if WINDOW_OPEN not in seen[-1]:
                break
            guest.cpu.page.c.request_interrupt_window = 0
            guest.cpu.ioctl(io.KVM_INTERRUPT, struct("kvm_interrupt", irq=VECTOR))
        clock = backend._handles[int(guest.cpu.fd)].vm.clock
        regs, sregs = guest.regs, guest.cpu.sregs
        names = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "rip", "rflags"]
        return {
            "events": events,
            "regs": {name: getattr(regs, name) for name in names},
            "sregs": {name: getattr(sregs, name) for name in ("cr0", "cr2", "cr3", "cr4", "efer")},
            "segments": {name: getattr(sregs, name).selector for name in ("cs", "ds", "es", "ss", "fs", "gs")},
            "memory": hashlib.sha256(guest.read(0, len(guest.ram))).hexdigest(),
            "time": clock.now() if case["counting"] else 0,
        }
    finally:
        guest.close()


EVERYWHERE = [
    asm("inc dword ptr [DATA]; add [DATA + 4], eax; mov ecx, [DATA]"),
    asm("mov eax, 0x12345678; rol eax, 7; sbb ecx, eax; adc ebx, 3"),
    asm("mov dx, 0x123; out dx, eax; in ax, dx"),
    asm("in al, 0x70; out 0x71, al"),
    asm("mov ecx, 3; a: add ebx, ecx; dec ecx; jnz a"),
    asm("pushf; popf"),
    asm("sti; nop; inc ebx; cli"),
    asm("sti; inc ebx"),
    asm("cli; mov esi, 1; pushf; sti; popf; inc esi; cli"),
    asm("cli; std; cld"),
    asm("mov ecx, 4; mov edi, DATA + 0x100; rep stosb"),
    asm("mov ecx, 3; mov esi, DATA; mov dx, 0x1f0; rep outsb"),
    asm("mov ecx, 5; mov edi, DATA + 0x200; mov dx, 0x1f0; rep insb"),
    asm("int 0x42"),
    asm("int3"),
    asm("ud2"),
    asm("xor edx, edx; xor esi, esi; div esi"),
    asm("mov eax, 0; cpuid"),
    asm("lock xadd [DATA + 8], ebx; cmpxchg [DATA + 8], ecx"),
    asm("xor eax, eax; mov [DATA + 12], esp; hlt"),
]  # fmt: skip
IN_MODE: dict[str, list[bytes]] = {
    REAL: [asm16("mov bx, 0xA000; mov fs, bx; mov fs:[8], eax; add eax, fs:[12]"), asm16("mov eax, cr0; mov cr0, eax")],
    PROTECTED: [asm32("mov [HOLE + 8], ax; add eax, [HOLE + 12]; inc byte ptr [HOLE]"), asm32("push gs; pop gs"),
                asm32("mov eax, cr0; mov cr0, eax; mov eax, cr3; mov cr3, eax")],
    LONG: [asm64("mov [HOLE + 8], rax; add eax, [HOLE + 12]; inc byte ptr [HOLE]"), asm64("mov eax, [SPARE]"),
           asm64("mov byte ptr [SPARE + 4], 1"), asm64("mov rax, cr0; mov cr0, rax; mov rax, cr3; mov cr3, rax"),
           asm64("mov byte ptr [rip + 1], 0x42; mov al, 0"), asm64("mov rax, 0x8000000000000000; mov ecx, [rax]"),
           asm64("syscall"), asm64("mov rax, cr8; mov cr8, rax; mov ecx, 0xC0000080; rdmsr; wrmsr")],
}  # fmt: skip
END = asm("mov dx, 0x99; out dx, al; hlt")


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    mode = draw(st.sampled_from(MODES))
    pieces = [piece[WIDTH[mode]] for piece in EVERYWHERE] + IN_MODE[mode]
    code = b"".join(draw(st.lists(st.sampled_from(pieces), min_size=1, max_size=12))) + END[WIDTH[mode]]
    return {
        "mode": mode, "code": code.hex(), "ring": draw(st.sampled_from((0, 0, 3))) if mode != REAL else 0,
        "window": draw(st.booleans()), "counting": draw(st.sampled_from((False, False, False, True))),
    }  # fmt: skip


@pytest.fixture(scope="module")
def plain() -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    """observe(), in a process where the hooks are the Python ones."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "conformance")))
    environment = os.environ | {"MINIVMM_FFI": "abi", "PYTHONPATH": paths}
    worker = subprocess.Popen(
        [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdin is not None
    assert worker.stdout is not None

    def ask(case: dict[str, Any]) -> dict[str, Any]:
        print(json.dumps(case), file=worker.stdin, flush=True)
        return json.loads(worker.stdout.readline())

    yield ask
    worker.stdin.close()
    assert worker.wait(30) == 0


@needs_both
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_random_guests_run_alike_on_both(plain, case):
    assert plain(case) == observe(case)


@needs_both
@pytest.mark.parametrize("files", [("test_engine.py",), ("test_threads.py",)])
def test_it_passes_the_tests_of_the_engine(files):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(
        command, env=os.environ | {"MINIVMM_FFI": "abi"}, cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.skipif(binding.COMPILED, reason="the hooks are compiled here")
def test_an_error_in_a_hook_comes_out_of_the_run(monkeypatch):
    """Ctrl-C, say, that comes while the engine calls us."""
    from minivmm.soft.plain import hooks

    def interrupted(*arguments: Any) -> int:
        raise KeyboardInterrupt

    guest = Guest(SoftBackend(), PROTECTED, asm32("mov eax, [DATA]; hlt"))
    monkeypatch.setattr(hooks, "walk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        guest.cpu.enter()
    monkeypatch.undo()
    assert guest.cpu.enter() == 0
    guest.close()


if __name__ == "__main__":
    assert not binding.COMPILED
    for line in sys.stdin:
        print(json.dumps(observe(json.loads(line))), flush=True)
