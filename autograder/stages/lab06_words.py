"""Lab 06, talking to the chip: the words of an initialization, the mask, and the commands behind it."""

from __future__ import annotations

from autograder.model import Case, Check, Finding, Hint
from autograder.nonces import Nonces
from autograder.observation import Observation
from autograder.stages.lab06_acknowledge import glitches
from autograder.stages.lab06_bench import bench, chips, mask_of, on_the_bench, pick, pulse
from autograder.stages.lab06_chip import chip_case, registers
from autograder.stages.lab06_hints import hints
from minivmm.devices.pic_chip import PicChip


def write(chip: PicChip, port: int, value: int) -> None:
    chip.write(port, value)


def words(nonces: Nonces) -> list[Case]:
    """No ICW1 comes while anything is in service, for what becomes of that is open. The datasheet's list of what ICW1
    does leaves the ISR out (8259A, "Initialization Command Words", a to f); KVM clears the bits whose edges it forgets
    and keeps the others (arch/x86/kvm/i8259.c, kvm_pic_reset); QEMU clears all (pic_reset_common)."""
    base = 8 * nonces.range("base", 4, 31)
    mask = nonces.range("mask", 0, 256) | 0x18  # on the command port it would be ICW1, and OCW3
    later = mask ^ 0xFF
    low, high = sorted(pick(nonces, "two", 2, range(8)))
    begin = [(0, 0x11), (1, base | nonces.range("low bits", 1, 8)), (1, 4), (1, 1)]
    theirs = {"write": "write"}
    lines = [pick(nonces, f"step {step}", 4) for step in range(2)]
    masks = mask_of(pick(nonces, "masked", 5, (0, 1, 3, 5, 6, 9, 11, 12, 15)))
    return [
        chip_case("the four words of the initialization, then a mask", [*begin, (1, mask)], write),
        chip_case("a mask, and another mask", [(1, mask), (1, later)], write, base=base, irr=1 << low | 1 << high,
                  isr=1 << high),
        chip_case("a second initialization, of a chip that is wired and used in another way",
                  [*begin[:2], (1, 1), (1, 0x0D), (1, mask)], write, base=base ^ 0xF8, imr=0xFF, irr=1 << low,
                  read_isr=True),
        chip_case("an ICW1 with other low bits, and requests by edge and by level", [(0, 0x19)], write, base=base,
                  imr=mask, irr=1 << low | 1 << high, elcr=1 << high),
        chip_case("an initialization that begins anew in its middle", [*begin[:2], *begin, (1, mask)], write),
        chip_case("OCW3, which chooses what is read", [(0, 0x0B), (0, 0x08), (0, 0x0A), (0, 0x09), (0, 0x2B)], write,
                  irr=1 << low, isr=1 << low | 1 << high),
        chip_case("OCW2, the end of an interrupt", [(0, 0x20), (0, 0x60 | high)], write, isr=1 << low | 1 << high),
        bench("irq-log", chips(nonces, masks), [[step, pulse(*each)] for step, each in enumerate(lines)],
              "a guest that sets vectors and masks", theirs),
        bench("irq-spurious", chips(nonces, name="reads"), glitches(nonces), "a guest that reads what is in service",
              theirs),
    ]  # fmt: skip


def written(case: Case, obs: Observation) -> Finding:
    if "calls" not in case.inputs:
        return on_the_bench(case, obs, "ocw3" if case.inputs["guest"] == "irq-spurious" else "words")
    calls = case.inputs["calls"]

    def hint(number: int, name: str) -> str:
        port, value = calls[number]
        if name == "irr":
            return "edges"
        if name == "isr":
            return "service" if port else "ocw3" if value & 8 else "ocw2"
        if name == "read_isr":
            return "icw1" if port == 0 and value & 0x10 else "ocw3"
        if port == 0:
            return "icw1"
        if name == "base" and number == 1:
            held = obs.list("states")[number].get("base")
            return "base" if held != case.inputs["chip"].get("base", 0) else "words"
        return "words"

    return registers(case, obs, ("imr", "base", "isr", "read_isr", "irr"), hint)


CHECKS = (
    Check(
        "06.7", "four words to begin, then masks and commands", 1,
        exercise="write", driver="on_the_bench", cases=words, judge=written,
        guests=("irq-log", "irq-spurious"),
        hints=hints(
            Hint("words", "The data port takes ICW2, ICW3 and ICW4 after an ICW1, in this order, and is the mask "
                 "(OCW1) at all other times. The classic mistake never comes back to the mask, or takes the "
                 "next word for it: `chip.icw` says which word comes."),
            Hint("base", "ICW2 is the vector of line 0; its low three bits don't count: `value & 0xF8`."),
            Hint("icw1", "Bit 4 on the command port is ICW1, whatever the other bits are: it starts the sequence "
                 "anew, clears the mask, and reads show the IRR again. The classic mistakes: the old mask stays; "
                 "the whole byte is compared with 0x11; bit 3 is tested before bit 4."),
            Hint("edges", "ICW1 forgets the requests by edge and keeps those by level: of `chip.irr` the bits of "
                 "`chip.elcr` are left. Nothing else here touches the requests."),
            Hint("ocw3", "Bits 4–3 = 01 on the command port are OCW3, whatever bit 5 is: it ends nothing. If bit 1 is "
                 "set, bit 0 says what is read: 1 the ISR, 0 the IRR. Without bit 1 nothing changes."),
            Hint("service", "What is in service ends by OCW2 alone: no mask ends it."),
            Hint("ocw2", "Bits 4–3 = 00 on the command port are OCW2: hand it to your `end_of_interrupt`."),
        ),
    ),
)  # fmt: skip
