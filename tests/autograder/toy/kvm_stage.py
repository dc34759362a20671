"""A lab of one exercise on a real device: what does the guest send to port 0x3F8?"""

from __future__ import annotations

from autograder import judge
from autograder.model import Case, Check, Finding, Hint, Lab, Limits
from autograder.nonces import Nonces
from autograder.observation import Observation


def images(nonces: Nonces) -> list[Case]:
    text = nonces.bytes("text", 4)
    # mov dx, 0x3f8; then mov al, imm8; out dx, al for each byte; hlt
    code = b"\xba\xf8\x03" + b"".join(bytes([0xB0, byte, 0xEE]) for byte in text) + b"\xf4"
    return [Case({"image": code}, text)]


def sent(case: Case, obs: Observation) -> Finding:
    outs = [f"out8 port 0x3f8: {byte:02x}" for byte in case.expected]
    return judge.all_of(
        judge.same_bytes(case.expected, obs.bytes(), "what `console` returned"),
        judge.same_exits([*outs, "KVM_EXIT_HLT"], obs.exits),
        judge.same_value({"KVM_EXIT_IO": 4, "KVM_EXIT_HLT": 1}, obs.dict("counts"), "the exits counted"),
        judge.same_value("KVM_CREATE_VM: handle", obs.strs("calls")[0], "the first call"),
    )


LAB = Lab(
    "71",
    "A toy on KVM",
    (
        Check(
            "71.1",
            "four bytes and a halt",
            3,
            "console",
            "console",
            images,
            sent,
            (Hint("einval", "Is the slot's size a multiple of 4096?", when="KVM_SET_USER_MEMORY_REGION.*EINVAL"),),
            limits=Limits(seconds=1),
        ),
    ),
    drivers="kvm_drivers",
)
