"""What all tests share: a backend where there is one, and a reason where there is none."""

from __future__ import annotations

import pytest

from minivmm.accel import NoBackendError, choose
from minivmm.kvm.seam import Backend


def _why_not() -> str:
    try:
        choose("kvm")
    except NoBackendError as error:
        return str(error)
    return ""


WHY_NO_KVM = _why_not()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not WHY_NO_KVM:
        return
    for item in items:
        if item.get_closest_marker("kvm") or "kvm_backend" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason=WHY_NO_KVM))


@pytest.fixture(params=["kvm", "soft"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn: /dev/kvm (skipped, with the reason, where it can't be used) and soft."""
    if request.param == "kvm" and WHY_NO_KVM:
        pytest.skip(WHY_NO_KVM)
    return choose(request.param).backend


@pytest.fixture
def kvm_backend() -> Backend:
    """The real device; the test is skipped, with the reason, where it can't be used."""
    return choose("kvm").backend
