"""What is special about lab 07: its answers agree with the library; other right answers."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autograder.nonces import Nonces
from autograder.stages import lab07_apic, lab07_clock, lab07_kernel, lab07_models, lab07_share, lab07_sleep, lab07_slice
from autograder.stages.lab07 import LAB
from minivmm.devices.pit_channel import Channel
from minivmm.soft.kvmclock import scale, steal_time, time_info


def test_the_lab_uses_many_guests():
    used = {name for check in LAB.checks for name in check.guests}
    assert len(used) >= 8


# ---- the answers, against the library's devices, which are tested against KVM's ----


@given(st.sampled_from([0, 2, 3]), st.integers(0, 0xFFFF), st.integers(0, 300_000))
def test_a_counter_does_what_the_librarys_does(mode, count, elapsed):
    if mode and count == 1:
        return  # the datasheet forbids it
    channel = Channel()
    channel.program(mode, False, 3)
    channel.write(count, 0)
    start = channel.start
    assert start is not None
    value, out = lab07_models.counter(mode, count, elapsed)
    assert (value, out) == (channel.value(start + elapsed), channel.output(start + elapsed))
    rise = lab07_models.next_rise(mode, count, elapsed)
    assert channel.next_rise(start + elapsed) == (None if rise is None else start + rise)


def test_the_pages_are_laid_out_as_the_library_has_them():
    assert lab07_clock.TIME.pack(6, 0, 11, 22, *scale(3_000_000), 1, 0) == time_info(6, 11, 22, 3_000_000)
    assert lab07_clock.STEAL.pack(77, 8, 0, 1)[:16] == steal_time(8, 77)[:16]
    assert struct.calcsize("<QIIB47x") == lab07_clock.STEAL.size == 64


def test_every_divider_has_its_case():
    codes = {case.inputs["parameters"]["option"] & 0xFF for case in lab07_apic.one_shot(Nonces(1, "07", "07.5"))}
    assert {0xB, 0, 8} <= codes
    assert lab07_models.apic_timer(100, 0xB, 0, 99) == (1, 0)
    assert lab07_models.apic_timer(100, 0xB, 0x20000, 250) == (50, 2)
    assert lab07_models.apic_timer(100, 0xA, 0, 128 * 40) == (60, 0)


# ---- the cases are worth something, whatever the seed ----


@pytest.mark.parametrize("seed", range(20))
def test_ticks_of_a_busy_guest_fall_where_interrupts_are_off(seed):
    for case in lab07_sleep.windows(Nonces(seed, "07", "07.4b")):
        printed = case.expected.decode().split()[::2]
        assert int(printed[-1], 16) == len(case.inputs["due"]) >= 2


@pytest.mark.parametrize("seed", range(20))
def test_a_guest_sleeps_past_a_tick_that_came_too_early(seed):
    late, short, deaf = lab07_sleep.sleeps(Nonces(seed, "07", "07.4"))
    first = int(late.expected["console"].split()[0], 16)
    assert first > late.inputs["due"][0] or late.inputs["due"][0] > late.inputs["start"] + 4000
    assert len(short.inputs["due"]) < short.expected["count"]
    assert len(deaf.inputs["due"]) > deaf.expected["count"]


@pytest.mark.parametrize("seed", range(20))
def test_three_tasks_take_turns(seed):
    for case in lab07_kernel.kernels(Nonces(seed, "07", "07.10")):
        text = case.expected.decode()
        assert sorted(text) == sorted("ABC" * 8)
        assert text != "A" * 8 + "B" * 8 + "C" * 8


@pytest.mark.parametrize("seed", range(20))
def test_slices_end_in_both_ways(seed):
    for cases in (lab07_slice.cut_in_time, lab07_slice.nothing_left_over):
        sliced = [case for case in cases(Nonces(seed, "07", "07.7")) if "acts" not in case.inputs]
        ends = [entry[1] for case in sliced for entry in case.expected]
        assert True in ends
        assert False in ends


@pytest.mark.parametrize("seed", range(20))
def test_whoever_takes_turns_is_unfair(seed):
    """The first case of 07.8 can tell: in turn, the one that overruns gets more than a slice and a piece ahead."""
    case = lab07_share.shares(Nonces(seed, "07", "07.8"))[0]
    length, (brisk, heavy) = case.inputs["length"], [list(vm["pieces"]) for vm in case.inputs["vms"]]
    ahead, worst = 0, 0
    while brisk and heavy:
        used = 0
        while used < length and brisk:
            used += brisk.pop()
        ahead += heavy.pop() - used
        worst = max(worst, ahead)
    assert worst > length + lab07_share.longest(case)


def test_a_page_that_could_be_torn_is_found():
    old, new = (lab07_clock.TIME.pack(0, 0, tsc, ns, 1 << 31, 1, 0, 0) for tsc, ns in ((1, 2), (3, 4)))
    before = (4).to_bytes(4, "little") + old[4:]

    def verdict(*writes: tuple[int, bytes]) -> str:
        return lab07_clock.torn([list(each) for each in writes], 0, 32, 0, before, [old, new])[1]

    odd, even, fields = (0, b"\5\0\0\0"), (0, b"\6\0\0\0"), (8, new[8:])
    assert verdict(odd, fields, even) == ""
    assert verdict(odd, (8, new[8:16]), (16, new[16:]), even) == ""
    assert verdict(fields, even) == "odd-first"
    assert verdict(odd, (8, new[8:16]), even, (16, new[16:])) == "even-last"
    assert verdict((0, even[1] + new[4:])) == "odd-first"  # a copy is no single step
    assert verdict((99, b"x")) == "outside"


# ---- other right answers ----

OTHER_ANSWERS = {
    "OUT as 0 and 1": ("        return count - into & 0xFFFF, into != count - 1\n",
                       "        return [count - into & 0xFFFF, int(into != count - 1)]\n"),
    "a rise looked for tick by tick": (
        "    return (elapsed // count + 1) * count\n",
        "    elapsed += 1\n    while elapsed % count:\n        elapsed += 1\n    return elapsed\n",
    ),
    "control words of the other counters left alone": (
        "        if word & 0x30:\n", "        if word >> 6:\n            return\n        if word & 0x30:\n",
    ),
    "the clock moved by work": (
        "            clock.now = max(clock.now, timer.next)\n",
        "            clock.work(max(timer.next - clock.now, 0))\n",
    ),
    "the fields one by one": (
        '    write(gpa + 8, pack("<QQIb", tsc, ns, mul, shift))\n',
        '    for at, kind, value in ((8, "Q", tsc), (16, "Q", ns), (24, "I", mul), (28, "b", shift)):\n'
        '        write(gpa + at, pack(f"<{kind}", value))\n',
    ),
    "immediate_exit cleared behind a slice, too": (
        "                raise\n            return False\n",
        "                raise\n            page.immediate_exit = 0\n            return False\n",
    ),
    "a failure that is told in other words": (
        "            if error.errno != errno.EINTR:\n                raise\n",
        "            if error.errno != errno.EINTR:\n                raise RuntimeError('lost') from error\n",
    ),
    "the loop turned round: the guest runs first": (
        "        if due() and page.ready_for_interrupt_injection:\n"
        "            ioctl(guest.fd, KVM_INTERRUPT, struct(\"kvm_interrupt\", irq=timer.fire()))\n"
        "        page.request_interrupt_window = due()\n        ioctl(guest.fd, KVM_RUN)\n"
        "        if page.exit_reason != KVM_EXIT_HLT:\n            guest.serve(page)\n"
        "        elif timer.next is None or not page.if_flag:\n            return\n"
        "        else:\n            clock.now = max(clock.now, timer.next)\n",
        "        page.request_interrupt_window = due()\n        ioctl(guest.fd, KVM_RUN)\n"
        "        if page.exit_reason != KVM_EXIT_HLT:\n            guest.serve(page)\n"
        "        elif timer.next is None or not page.if_flag:\n            return\n"
        "        else:\n            clock.now = max(clock.now, timer.next)\n"
        "        if due() and page.ready_for_interrupt_injection:\n"
        "            ioctl(guest.fd, KVM_INTERRUPT, struct(\"kvm_interrupt\", irq=timer.fire()))\n",
    ),
    "a read by its place in the bytes": (
        "        shift = 8 if self.high else 0\n        self.high = not self.high\n"
        "        return self.value() >> shift & 0xFF\n",
        "        self.high = not self.high\n        return self.value().to_bytes(2, 'little')[not self.high]\n",
    ),
    "the VMs sorted where they are": (
        "        chosen = min(awake, key=lambda vm: vm.ran)\n",
        "        vms.sort(key=lambda vm: vm.ran)\n        chosen = next(vm for vm in vms if not vm.halted)\n",
    ),
    "halted VMs taken off the list": (
        "        chosen = min(awake, key=lambda vm: vm.ran)\n",
        "        vms[:] = awake\n        chosen = min(awake, key=lambda vm: vm.ran)\n",
    ),
    "mul rounded up": (
        "    return (10**6 << 64) // khz >> 32 + shift, shift\n",
        "    return min(-(-(10**6 << 64) // khz >> 32 + shift), 2**32 - 1), shift\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", OTHER_ANSWERS.values(), ids=list(OTHER_ANSWERS))
def test_another_right_answer_has_full_marks(change, marks_lost):
    assert marks_lost("07", change) == []
