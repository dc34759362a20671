"""The KVM API as the kernel has it: structures, numbers, errors, and the calls that go through the seam."""

from minivmm.kvm.binding import MODE, ffi
from minivmm.kvm.calls import address_of, anonymous_memory, close, ioctl, mmap_run, open_kvm, struct, use
from minivmm.kvm.constants import *  # noqa: F403
from minivmm.kvm.device import KvmBackend
from minivmm.kvm.errors import KvmError
from minivmm.kvm.handles import Handle
from minivmm.kvm.ioctls import *  # noqa: F403
from minivmm.kvm.run_page import RunPage
from minivmm.kvm.seam import Backend

__all__ = [
    *(name for name in globals().copy() if name.startswith("KVM_")),
    "MODE", "Backend", "Handle", "KvmBackend", "KvmError", "RunPage", "address_of", "anonymous_memory", "close", "ffi",
    "ioctl", "mmap_run", "open_kvm", "struct", "use",
]  # fmt: skip
