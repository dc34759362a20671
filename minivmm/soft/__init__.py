"""The KVM API answered without hardware: a processor on Unicorn, and the chips that KVM has in the kernel."""
