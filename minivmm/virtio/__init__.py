"""virtio: devices that were designed for virtual machines instead of copied from real ones.

Driver and device share queues in guest memory; a register write says "look", an interrupt says "done". Read in this
order: `mmio` (the registers), `transport` (what they set in motion), `queue` and `chain` (what the guest hands over),
then one device: `rng` is the shortest. `worker` puts a device on a thread of its own, and `kvm_wiring` lets KVM itself
ring there.

All section numbers are those of "Virtual I/O Device (VIRTIO) Version 1.2", OASIS, July 2022.
"""
