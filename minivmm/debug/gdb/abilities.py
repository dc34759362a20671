"""What of KVM_SET_GUEST_DEBUG a backend really does, found out with five guests of a few bytes each.

KVM accepts more than some hosts can do. Where it has to interpret the guest (kvm_pvm), a watchpoint is taken and never
hit, and an `int3` in ring 0 ends the guest; under an emulated AMD-V (QEMU's TCG) only steps work. No capability says
so; a run of a microsecond does.

Source: KVM API 4.87 KVM_SET_GUEST_DEBUG, and KVM_CAP_SET_GUEST_DEBUG2, whose value is the flags that it takes.
"""

from __future__ import annotations

from minivmm.boot import layout
from minivmm.debug.gdb.model import Abilities
from minivmm.exits import Debug
from minivmm.kvm import constants as k
from minivmm.kvm.errors import KvmError
from minivmm.kvm.seam import Backend
from minivmm.vm import Vm
from minivmm.watch import Watch

CODE, CELL = 0x1000, 0x2000
STORE = bytes.fromhex("a200200000 90f4")  # mov [0x2000], al; nop; hlt
LONGEST = 1.0  # seconds, for a guest that goes astray
INT3 = bytes.fromhex("cc90f4")
DR7_EXECUTE, DR7_WRITE = 0x602, 0x1_0602  # slot 0: one byte, executed or written (see points.py)


def probe(backend: Backend) -> Abilities:
    """Runs the guests on a VM of their own. Takes a few milliseconds; raises KvmError where no VM can be made."""
    with Vm(backend) as vm:
        flags = vm.has_cap(k.KVM_CAP_SET_GUEST_DEBUG2)
    return Abilities(
        step=_exits(backend, STORE, k.KVM_GUESTDBG_SINGLESTEP),
        hardware=_exits(backend, STORE, k.KVM_GUESTDBG_USE_HW_BP, CODE + 5, DR7_EXECUTE),
        watch=_exits(backend, STORE, k.KVM_GUESTDBG_USE_HW_BP, CELL, DR7_WRITE),
        software=_exits(backend, INT3, k.KVM_GUESTDBG_USE_SW_BP),
        block_interrupts=bool(flags & k.KVM_GUESTDBG_BLOCKIRQ),
    )


def _exits(backend: Backend, code: bytes, control: int, address: int = 0, dr7: int = 0) -> bool:
    """Whether `code`, in 32-bit ring 0, comes to a debug exit."""
    with Vm(backend) as vm:
        vm.memory.add(0, 1 << 20)
        vcpu = vm.create_vcpu()
        vm.memory.write(CODE, code)
        layout.enter(vcpu, vm.memory, "protected", CODE)
        try:
            vcpu.set_guest_debug(k.KVM_GUESTDBG_ENABLE | control, [address, 0, 0, 0, 0, 0, 0, dr7])
            with Watch(vcpu.kick, LONGEST):
                return isinstance(vcpu.run(), Debug)
        except KvmError:
            return False
