"""Another Unicorn than the one we know is refused, in one clear sentence, before anything relies on it."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from typing import Any

import pytest
from unicorn import x86_const as x86

from minivmm.accel import NoBackendError, choose
from minivmm.soft import engine, library, scratch, selfcheck
from minivmm.soft.engine import Engine, Stop
from minivmm.soft.library import EngineError


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    """Forgets what was found out in this process, before and after."""
    caches = (library.unicorn, library.capstone, library.decoders, selfcheck.layout, engine._library)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def refusal() -> str:
    """What the user reads. One sentence or two, no traceback, and what to do about it."""
    with pytest.raises(NoBackendError) as refused:
        choose("soft")
    text = str(refused.value)
    assert "\n" not in text
    assert len(text) < 250
    assert "pip install" in text
    return text


def test_the_released_one_is_taken() -> None:
    layout = selfcheck.layout()
    assert layout.exception > 0
    assert layout.fault > 0
    assert choose("soft").backend.name == "soft"


def test_another_version_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "version", lambda loaded: "2.2.0")
    assert re.search(r"knows Unicorn 2\.1\.4 and found 2\.2\.0", refusal())


def test_a_missing_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    assert "needs Unicorn: run pip install unicorn==2.1.4" in refusal()


def test_a_package_without_its_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: ModuleSpec(package, None, origin=__file__))
    with pytest.raises(EngineError, match="The package unicorn has no library for"):
        library.unicorn()


def test_a_library_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str) -> None:
        raise OSError("invalid ELF header")

    monkeypatch.setattr(ctypes, "CDLL", broken)
    with pytest.raises(EngineError, match=r"library of unicorn can't be loaded on .* \(invalid ELF header\)"):
        library.unicorn()


# ---- the right version number, and another layout or behaviour: a distribution's own build, say ----


class Different:
    """The library, with some functions that behave differently."""

    def __init__(self, real: Any, **changed: Callable[..., int]) -> None:
        self.__dict__.update(changed)
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def use(monkeypatch: pytest.MonkeyPatch, **changed: Callable[..., int]) -> None:
    different = Different(library.unicorn(), **changed)
    for module in (library, engine, selfcheck):
        monkeypatch.setattr(module, "unicorn", lambda: different)


def test_a_context_without_the_registers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    engine._library()  # has noted its functions' addresses before
    use(monkeypatch, uc_context_save=lambda uc, context: 0)
    with pytest.raises(EngineError, match=r"context does not hold the registers.*2\.1\.4"):
        selfcheck.layout()


def test_an_engine_that_refuses_its_options_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, uc_ctl=lambda *arguments: 5)
    with pytest.raises(EngineError, match="Unicorn refuses choosing the CPU model"):
        selfcheck.layout()


def test_exception_fields_elsewhere_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "_DR_MAGIC", 0)  # found at once, in the wrong place
    assert "the debug registers are elsewhere" in refusal()


@pytest.mark.parametrize(
    ("written", "moved", "said"),
    [
        ("UC_X86_REG_RBX", "UC_X86_REG_RCX", "rbx is elsewhere"),
        ("UC_X86_REG_R15", "UC_X86_REG_R14", "r14 is elsewhere"),
        ("UC_X86_REG_RIP", "UC_X86_REG_R15", "r15 is elsewhere"),
        ("UC_X86_REG_CR2", "UC_X86_REG_CR3", "the control registers are elsewhere"),
        ("UC_X86_REG_CR3", "UC_X86_REG_CR2", "the control registers are elsewhere"),
        ("UC_X86_REG_GDTR", "UC_X86_REG_IDTR", "the GDT is elsewhere"),
        ("UC_X86_REG_IDTR", "UC_X86_REG_GDTR", "the IDT is elsewhere"),
        ("UC_X86_REG_MSR", "UC_X86_REG_R8", "EFER is elsewhere"),
    ],
)
def test_a_register_elsewhere_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, written: str, moved: str, said: str
) -> None:
    """What is meant for one register reaches another, as if the structure had moved."""
    from_, to = getattr(x86, written), getattr(x86, moved)
    plain_set, raw_set = Engine.set, Engine.raw_set
    monkeypatch.setattr(
        Engine, "set", lambda self, which, value: plain_set(self, to if which == from_ else which, value)
    )
    monkeypatch.setattr(
        Engine, "raw_set", lambda self, which, value: raw_set(self, to if which == from_ else which, value)
    )
    text = refusal()
    assert said in text
    assert text.startswith("This Unicorn behaves unlike 2.1.4")


def _redirected(set_register: Callable[..., None], from_: int, to: int) -> Callable[..., None]:
    return lambda self, which, value: set_register(self, to if which == from_ else which, value)


@pytest.mark.parametrize(
    ("nth_run", "change", "said"),
    [
        (1, lambda engine, stop: Stop.HALTED, "a refused TLB miss goes unnoticed"),
        (1, lambda engine, stop: engine.set(x86.UC_X86_REG_RAX, 77) or stop, "a refused access counts"),
        (1, lambda engine, stop: engine.set(x86.UC_X86_REG_RIP, 0x1003) or stop, "a refused access counts"),
        (2, lambda engine, stop: Stop.BUDGET, "it does not stop before an OUT"),
        (2, lambda engine, stop: engine.set(x86.UC_X86_REG_RIP, 0x2003) or stop, "it does not stop before an OUT"),
        (2, lambda engine, stop: engine.set(x86.UC_X86_REG_RAX, 2) or stop, "it does not stop before an OUT"),
        (3, lambda engine, stop: Stop.BUDGET, "the trap flag does not stop it after one instruction"),
        (3, lambda engine, stop: engine.set(x86.UC_X86_REG_RAX, 3) or stop, "the trap flag does not stop it"),
    ],
)
def test_a_behaviour_that_differs_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, nth_run: int, change: Callable[[Engine, int], int], said: str
) -> None:
    """The first two runs, and the step that comes third, end otherwise than they do in 2.1.4."""
    runs = iter(range(1, 100))

    def changed(real: Callable[..., int]) -> Callable[..., int]:
        def ended(self: Engine, *arguments: int) -> int:
            stop = real(self, *arguments)
            return change(self, stop) if next(runs) == nth_run else stop

        return ended

    monkeypatch.setattr(Engine, "run", changed(Engine.run))
    monkeypatch.setattr(Engine, "step", changed(Engine.step))
    text = refusal()
    assert said in text
    assert text.startswith("This Unicorn behaves unlike 2.1.4")


def test_a_fault_address_that_is_not_noted_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "_HANDLE_BYTES", 8)
    assert "the address of a fault is not noted" in refusal()


def test_an_engine_that_can_not_do_an_instruction_says_which() -> None:
    with scratch.scratch(b"\x0f\x0b") as cpu, pytest.raises(EngineError, match="does not carry out 0f 0b"):
        cpu.execute()


def test_it_is_asked_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    first = selfcheck.layout()
    monkeypatch.setattr(selfcheck, "_find_exception", lambda: pytest.fail("asked again"))
    assert selfcheck.layout() is first
    assert choose("soft").backend.name == "soft"


def test_the_check_leaves_no_engine_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Engine] = []
    init = Engine.__init__

    def noted(self: Engine, *arguments: Any, **options: Any) -> None:
        made.append(self)
        init(self, *arguments, **options)

    monkeypatch.setattr(Engine, "__init__", noted)
    selfcheck.layout()
    assert made
    assert all(not each._uc.value for each in made)
