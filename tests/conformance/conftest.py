"""The backends under test, the guests that are closed behind each test, and the differences that are known."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import known_differences
import pytest
from rig import Guest, Vm

from minivmm.accel import NoBackendError, choose
from minivmm.kvm.seam import Backend

IN_BOX = "MINIVMM_BOX" in os.environ
BACKENDS = ("kvm",) if IN_BOX else ("kvm", "soft")  # the box is there for its kvm; soft is the same anywhere
HERE = Path(__file__).resolve().parent
collect_ignore = ["test_snippets.py", "test_generator.py"] if IN_BOX else []  # no backend in them: the same anywhere


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn; skipped, with the reason, where it can't be had."""
    try:
        return choose(request.param).backend
    except NoBackendError as error:
        pytest.skip(str(error))


@pytest.fixture
def start(backend: Backend) -> Iterator[Callable[..., Guest]]:
    """start(mode, code, ring=0, irqchip=False, cpuid=True, flags=0, **regs) -> Guest."""
    guests: list[Guest] = []

    def make(mode: str, code: bytes | dict[int, bytes], **options: int) -> Guest:
        guests.append(Guest(backend, mode, code, **options))
        return guests[-1]

    yield make
    for guest in guests:
        guest.close()


@pytest.fixture
def vm(backend: Backend) -> Iterator[Vm]:
    """A VM with nothing in it."""
    vm = Vm(backend)
    yield vm
    vm.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Makes each known difference a strict expected failure, and refuses the names of tests that are not there."""
    ours = [item for item in items if HERE in item.path.parents]
    seen: set[str] = set()
    for item in ours:
        backend, names = names_of(item)
        seen |= names
        for name in names & known_differences.BREAKS_THE_BOX.keys() if IN_BOX else ():
            item.add_marker(pytest.mark.skip(reason=known_differences.BREAKS_THE_BOX[name]))
        for table in known_differences.for_platform(backend):
            for name in names & table.keys():
                item.add_marker(pytest.mark.xfail(reason=table[name], strict=True))
        if IN_BOX and names & set(known_differences.LAST_IN_THE_BOX):
            items.remove(item)
            items.append(item)
    files = {item.path.stem for item in ours}
    if not any("::" in argument for argument in config.args):
        named = {name for name in known_differences.all_names() if name.partition("::")[0] in files}
        if named - seen:
            raise pytest.UsageError(f"known_differences.py names tests that are not there: {sorted(named - seen)}")


def names_of(item: pytest.Item) -> tuple[str, set[str]]:
    """The backend of a test, and the names by which a difference may call it (see known_differences.py)."""
    parameters = getattr(item, "callspec", None)
    if parameters is None:
        return "", {f"{item.path.stem}::{item.name}"}
    backend = parameters.params.get("backend", "")
    function = f"{item.path.stem}::{item.name.partition('[')[0]}"
    rest = "-".join(part for part in parameters.id.split("-") if part != backend)
    return backend, {function, f"{function}[{rest}]", f"*[{parameters.params.get('mode')}]"}
