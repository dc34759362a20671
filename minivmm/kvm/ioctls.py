"""The ioctl numbers of the KVM API, built as <asm-generic/ioctl.h> builds them.

A request number is four fields: the direction of the data (2 bits), the size of the argument (14), a letter or number
that tells the subsystems apart (8; KVM's is 0xAE) and the number of the call (8). So a structure of the wrong size
makes a request that the kernel doesn't know: ENOTTY from a VM's handle, EINVAL from the other two.

Source: Documentation/userspace-api/ioctl/ioctl-decoding.rst; the calls in Documentation/virt/kvm/api.rst.
"""

from __future__ import annotations

from minivmm.kvm.binding import ffi

KVMIO = 0xAE
NONE, WRITE, READ = 0, 1, 2  # seen from userspace: WRITE means that the kernel reads our structure


def request(direction: int, number: int, size: int) -> int:
    """The request number of a KVM ioctl whose argument has `size` bytes."""
    return direction << 30 | size << 16 | KVMIO << 8 | number


def IO(number: int) -> int:
    return request(NONE, number, 0)


def IOR(number: int, kind: str) -> int:
    return request(READ, number, ffi.sizeof(kind))


def IOW(number: int, kind: str) -> int:
    return request(WRITE, number, ffi.sizeof(kind))


def IOWR(number: int, kind: str) -> int:
    return request(READ | WRITE, number, ffi.sizeof(kind))


# The system handle: what open("/dev/kvm") gives.
KVM_GET_API_VERSION = IO(0x00)
KVM_CREATE_VM = IO(0x01)
KVM_GET_MSR_INDEX_LIST = IOWR(0x02, "struct kvm_msr_list")
KVM_CHECK_EXTENSION = IO(0x03)
KVM_GET_VCPU_MMAP_SIZE = IO(0x04)
KVM_GET_SUPPORTED_CPUID = IOWR(0x05, "struct kvm_cpuid2")
KVM_GET_EMULATED_CPUID = IOWR(0x09, "struct kvm_cpuid2")
KVM_GET_MSR_FEATURE_INDEX_LIST = IOWR(0x0A, "struct kvm_msr_list")

# The VM handle.
KVM_CREATE_VCPU = IO(0x41)
KVM_GET_DIRTY_LOG = IOW(0x42, "struct kvm_dirty_log")
KVM_SET_USER_MEMORY_REGION = IOW(0x46, "struct kvm_userspace_memory_region")
KVM_SET_TSS_ADDR = IO(0x47)
KVM_SET_IDENTITY_MAP_ADDR = IOW(0x48, "uint64_t")
KVM_CREATE_IRQCHIP = IO(0x60)
KVM_IRQ_LINE = IOW(0x61, "struct kvm_irq_level")
KVM_GET_IRQCHIP = IOWR(0x62, "struct kvm_irqchip")
KVM_SET_IRQCHIP = IOR(0x63, "struct kvm_irqchip")  # the kernel's own slip: the data goes in
KVM_IRQ_LINE_STATUS = IOWR(0x67, "struct kvm_irq_level")
KVM_REGISTER_COALESCED_MMIO = IOW(0x67, "struct kvm_coalesced_mmio_zone")
KVM_UNREGISTER_COALESCED_MMIO = IOW(0x68, "struct kvm_coalesced_mmio_zone")
KVM_SET_GSI_ROUTING = IOW(0x6A, "struct kvm_irq_routing")
KVM_REINJECT_CONTROL = IO(0x71)
KVM_IRQFD = IOW(0x76, "struct kvm_irqfd")
KVM_CREATE_PIT2 = IOW(0x77, "struct kvm_pit_config")
KVM_SET_BOOT_CPU_ID = IO(0x78)
KVM_IOEVENTFD = IOW(0x79, "struct kvm_ioeventfd")
KVM_SET_CLOCK = IOW(0x7B, "struct kvm_clock_data")
KVM_GET_CLOCK = IOR(0x7C, "struct kvm_clock_data")
KVM_GET_PIT2 = IOR(0x9F, "struct kvm_pit_state2")
KVM_SET_PIT2 = IOW(0xA0, "struct kvm_pit_state2")
KVM_SIGNAL_MSI = IOW(0xA5, "struct kvm_msi")
KVM_CLEAR_DIRTY_LOG = IOWR(0xC0, "struct kvm_clear_dirty_log")
KVM_X86_SET_MSR_FILTER = IOW(0xC6, "struct kvm_msr_filter")
KVM_RESET_DIRTY_RINGS = IO(0xC7)

# The vCPU handle.
KVM_RUN = IO(0x80)
KVM_GET_REGS = IOR(0x81, "struct kvm_regs")
KVM_SET_REGS = IOW(0x82, "struct kvm_regs")
KVM_GET_SREGS = IOR(0x83, "struct kvm_sregs")
KVM_SET_SREGS = IOW(0x84, "struct kvm_sregs")
KVM_TRANSLATE = IOWR(0x85, "struct kvm_translation")
KVM_INTERRUPT = IOW(0x86, "struct kvm_interrupt")
KVM_GET_MSRS = IOWR(0x88, "struct kvm_msrs")
KVM_SET_MSRS = IOW(0x89, "struct kvm_msrs")
KVM_SET_SIGNAL_MASK = IOW(0x8B, "struct kvm_signal_mask")
KVM_GET_FPU = IOR(0x8C, "struct kvm_fpu")
KVM_SET_FPU = IOW(0x8D, "struct kvm_fpu")
KVM_GET_LAPIC = IOR(0x8E, "struct kvm_lapic_state")
KVM_SET_LAPIC = IOW(0x8F, "struct kvm_lapic_state")
KVM_SET_CPUID2 = IOW(0x90, "struct kvm_cpuid2")
KVM_GET_CPUID2 = IOWR(0x91, "struct kvm_cpuid2")
KVM_TPR_ACCESS_REPORTING = IOWR(0x92, "struct kvm_tpr_access_ctl")
KVM_SET_VAPIC_ADDR = IOW(0x93, "struct kvm_vapic_addr")
KVM_GET_MP_STATE = IOR(0x98, "struct kvm_mp_state")
KVM_SET_MP_STATE = IOW(0x99, "struct kvm_mp_state")
KVM_NMI = IO(0x9A)
KVM_SET_GUEST_DEBUG = IOW(0x9B, "struct kvm_guest_debug")
KVM_GET_VCPU_EVENTS = IOR(0x9F, "struct kvm_vcpu_events")
KVM_SET_VCPU_EVENTS = IOW(0xA0, "struct kvm_vcpu_events")
KVM_GET_DEBUGREGS = IOR(0xA1, "struct kvm_debugregs")
KVM_SET_DEBUGREGS = IOW(0xA2, "struct kvm_debugregs")
KVM_SET_TSC_KHZ = IO(0xA2)
KVM_GET_TSC_KHZ = IO(0xA3)
KVM_GET_XSAVE = IOR(0xA4, "struct kvm_xsave")
KVM_SET_XSAVE = IOW(0xA5, "struct kvm_xsave")
KVM_GET_XCRS = IOR(0xA6, "struct kvm_xcrs")
KVM_SET_XCRS = IOW(0xA7, "struct kvm_xcrs")
KVM_KVMCLOCK_CTRL = IO(0xAD)
KVM_SMI = IO(0xB7)
KVM_GET_SREGS2 = IOR(0xCC, "struct kvm_sregs2")
KVM_SET_SREGS2 = IOW(0xCD, "struct kvm_sregs2")
KVM_GET_XSAVE2 = IOR(0xCF, "struct kvm_xsave")

# The VM or the vCPU handle, by what is enabled.
KVM_ENABLE_CAP = IOW(0xA3, "struct kvm_enable_cap")

IOCTL_NAMES = {number: name for name, number in globals().copy().items() if name.startswith("KVM_") and name != "KVMIO"}


def name_of(request_number: int) -> str:
    """`KVM_RUN` for its number; the number in hex where it is none of ours."""
    return IOCTL_NAMES.get(request_number, f"ioctl {request_number:#x}")
