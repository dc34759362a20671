"""Our knowledge of x86 against the kernel's: what KVM refuses we name, and where KVM walks page tables we agree."""

import errno
import random

import pytest
from test_rules import BREAKING, Change, long, protected, real, ring_3

from minivmm.kvm import KvmError
from minivmm.vm import Vm
from minivmm.x86 import cpuid, modes
from minivmm.x86.canonical import sign_extend
from minivmm.x86.paging import FOUR_LEVEL, PAGE_1G, MappingError, PageTableBuilder, translate
from minivmm.x86.rules import broken_rules, errors

pytestmark = pytest.mark.kvm
STATES = {real: "real", protected: "protected", long: "long", ring_3: "ring 3"}
SEGMENT = ("base", "limit", "selector", "type", "present", "dpl", "db", "s", "l", "g", "avl", "unusable")


def copy_into(kvm_sregs: object, sregs: object) -> None:
    """Writes one of our states over what KVM_GET_SREGS gave."""
    for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt"):
        for field in SEGMENT:
            setattr(getattr(kvm_sregs, name), field, getattr(getattr(sregs, name), field))
    for name in ("gdt", "idt"):
        for field in ("base", "limit"):
            setattr(getattr(kvm_sregs, name), field, getattr(getattr(sregs, name), field))
    for name in ("cr0", "cr2", "cr3", "cr4", "efer"):
        setattr(kvm_sregs, name, getattr(sregs, name))


def test_a_new_vcpu_is_in_the_state_after_reset_and_breaks_nothing() -> None:
    with Vm() as vm:
        vcpu = vm.create_vcpu()
        regs, sregs = vcpu.get_regs(), vcpu.get_sregs()
        assert broken_rules(sregs, regs) == []
        assert modes.mode_of(sregs, regs) == "real"
        assert modes.linear_address(sregs, "cs", regs.rip) == 0xFFFF_FFF0


@pytest.mark.parametrize(
    ("severity", "name", "state", "change"),
    [pytest.param(*case, id=f"{STATES[case[2]]}-{case[1]}-{n}") for n, case in enumerate(BREAKING)],
)
def test_whatever_kvm_refuses_has_a_name(severity: str, name: str, state: object, change: Change) -> None:
    sregs = state()  # type: ignore[operator]
    change(sregs)
    with Vm() as vm:
        vcpu = vm.create_vcpu()
        kvm_sregs = vcpu.get_sregs()
        copy_into(kvm_sregs, sregs)
        refusal = 0
        try:
            vcpu.set_sregs(kvm_sregs, validate=False)
        except KvmError as error:
            refusal = error.errno
    assert refusal in (0, errno.EINVAL)
    if refusal:
        assert errors(sregs), f"KVM refuses a state that breaks no rule of ours: {name}"


@pytest.mark.parametrize("enter", [modes.real_mode, modes.protected_mode, modes.long_mode])
def test_the_modes_run(enter: object) -> None:
    with Vm() as vm:
        vm.memory.add(0, 1 << 20)
        vcpu = vm.create_vcpu()
        tables = PageTableBuilder(vm.memory, range(0x8_0000, 0x8_6000))
        tables.map(0, 0, 4 << 30, page=1 << 21)
        sregs = vcpu.get_sregs()
        enter(sregs, **({"cr3": tables.root} if enter is modes.long_mode else {}))  # type: ignore[operator]
        vcpu.set_sregs(sregs)
        vm.memory.write(0x1000, bytes.fromhex("31c0 ffc0 f4"))  # xor eax, eax; inc eax; hlt, in every mode
        vcpu.update(rip=0x1000, rflags=2, rsp=0xF000)
        assert vcpu.run().name == "KVM_EXIT_HLT"
        regs = vcpu.get_regs()
        assert (regs.rax, regs.rip) == (1, 0x1005)


def test_kvm_walks_page_tables_as_we_do() -> None:
    dice = random.Random(2024)
    pages = [size for size in FOUR_LEVEL.page_sizes if size != PAGE_1G]
    with Vm() as vm:
        vm.memory.add(0, 2 << 20)
        vcpu = vm.create_vcpu()
        width = cpuid.physical_bits([])  # no KVM_SET_CPUID2: KVM assumes 36 bits and no 1 GiB pages, as we do
        for damage in (0, 1) * 10:
            builder = PageTableBuilder(vm.memory, range(0x1_0000, 0x10_0000))
            mapped = []
            for _ in range(5):
                page = dice.choice(pages)
                va = sign_extend(dice.randrange(0, 1 << 48, page))
                try:
                    builder.map(va, dice.randrange(0, 1 << 32, page), 2 * page, page=page, execute=dice.random() < 0.5)
                except MappingError:
                    continue
                mapped.append(range(va, va + 2 * page))
            for _ in range(30 * damage):
                where = dice.choice(builder.used[::4096]) + 8 * dice.randrange(512)
                if entry := vm.memory.read_int(where, 8):
                    vm.memory.write_int(where, 8, entry ^ 1 << dice.choice([0, 1, 7, 12, 13, 20, 30, 40, 51, 52, 63]))
            sregs = vcpu.get_sregs()
            modes.long_mode(sregs, cr3=builder.root)
            sregs.efer |= damage << 11  # EFER.NXE: without it bit 63 is reserved
            vcpu.set_sregs(sregs)
            for _ in range(40):
                spot = dice.choice(mapped)
                va = dice.choice([dice.choice(spot), sign_extend(spot.start ^ 1 << dice.randrange(12, 47))])
                ours = translate(vm.memory, sregs, va, gib_pages=False, physical_bits=width)
                assert ours.physical == vcpu.translate(va), ours.text()
