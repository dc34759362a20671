"""VMware's backdoor: a port that no PC has, by which a guest asks its hypervisor what version, time and size it has.

A call is an IN from port 0x5658 with a magic number in EAX and a command in ECX. The answer comes in the other general
registers too, which a port device does not see; so it is given two functions, for the registers of the vCPU that is
at the port now. KVM completes an IN in the next KVM_RUN, and what was set before then stays (api.rst, KVM_EXIT_IO).

Source: open-vm-tools, lib/include/backdoor_def.h; for the answers, Linux arch/x86/kernel/cpu/vmware.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

PORT = 0x5658
MAGIC = 0x564D_5868  # "VMXh"
VERSION, WORKSTATION = 6, 4
REFUSED = 0xFFFF_FFFF
LOW = 0xFFFF_FFFF
MAX_LAG_US = 1_000_000  # how far off a guest's clock may be before its tools correct it


class Registers(Protocol):
    """What of `struct kvm_regs` a call arrives in."""

    rax: int
    rcx: int


class VmwareBackdoor:
    """`registers()` gives the caller's registers, `update(rbx=…, …)` sets some of them: `Vcpu.get_regs` and `.update`.

    `memory` is the RAM in bytes, `tsc_hz` and `apic_hz` are in Hz (0 where unknown), `unix_time` gives ns since 1970.
    """

    name = "VMware backdoor"

    def __init__(
        self,
        registers: Callable[[], Registers],
        update: Callable[..., object],
        unix_time: Callable[[], int],
        *,
        memory: int,
        tsc_hz: int = 0,
        apic_hz: int = 0,
        port: int = PORT,
    ) -> None:
        self.claim = range(port, port + 4)
        self._registers = registers
        self._update = update
        self._unix_time = unix_time
        self._memory = memory
        self._tsc_hz = tsc_hz
        self._apic_hz = apic_hz

    def read(self, offset: int, size: int) -> int:
        """EAX after the call. Whoever doesn't know the magic finds nothing here."""
        if offset or size != 4:
            return (1 << 8 * size) - 1
        registers = self._registers()
        call = self._CALLS.get(registers.rcx & 0xFFFF)  # the upper half is for channels, which we don't have
        answer = call(self) if call and registers.rax & LOW == MAGIC else {}
        if not answer:
            return REFUSED
        # EAX among them: where KVM interprets the IN, a change of the registers makes it forget that it has one to set.
        self._update(**answer)
        return answer["rax"]

    def write(self, offset: int, size: int, value: int) -> None:
        """An OUT is no call."""

    def _version(self) -> dict[str, int]:
        return {"rax": VERSION, "rbx": MAGIC, "rcx": WORKSTATION}

    def _memory_size(self) -> dict[str, int]:
        return {"rax": self._memory >> 20 & LOW}  # in MiB

    def _time(self) -> dict[str, int]:
        seconds, ns = divmod(self._unix_time(), 1_000_000_000)
        # Seconds until 2106, µs, µs, minutes west of Greenwich.
        return {"rax": seconds & LOW, "rbx": ns // 1000, "rcx": MAX_LAG_US, "rdx": 0}

    def _time_full(self) -> dict[str, int]:
        seconds, ns = divmod(self._unix_time(), 1_000_000_000)
        high, low = seconds >> 32 & LOW, seconds & LOW
        return {"rax": MAGIC, "rbx": ns // 1000, "rcx": MAX_LAG_US, "rdx": low, "rsi": high}

    def _hz(self) -> dict[str, int]:
        if not self._tsc_hz:
            return {}
        return {"rax": self._tsc_hz & LOW, "rbx": self._tsc_hz >> 32 & LOW, "rcx": self._apic_hz & LOW}

    _CALLS: ClassVar[dict[int, Callable[[VmwareBackdoor], dict[str, int]]]] = {
        10: _version,
        20: _memory_size,
        23: _time,
        45: _hz,
        46: _time_full,
    }

    def save(self) -> dict[str, Any]:
        return {}

    def load(self, state: dict[str, Any]) -> None:
        pass
