"""Numbers that driver and device agree on: registers, status bits, feature bits.

Source: virtio 1.2, 4.2.2 "MMIO Device Register Layout", 2.1 "Device Status Field", 6 "Reserved Feature Bits".
"""

from __future__ import annotations

# 4.2.2: offsets of the 32-bit registers from the start of the device's claim.
MAGIC_VALUE = 0x000
VERSION = 0x004
DEVICE_ID = 0x008
VENDOR_ID = 0x00C
DEVICE_FEATURES = 0x010
DEVICE_FEATURES_SEL = 0x014
DRIVER_FEATURES = 0x020
DRIVER_FEATURES_SEL = 0x024
QUEUE_SEL = 0x030
QUEUE_NUM_MAX = 0x034
QUEUE_NUM = 0x038
QUEUE_READY = 0x044
QUEUE_NOTIFY = 0x050
INTERRUPT_STATUS = 0x060
INTERRUPT_ACK = 0x064
STATUS = 0x070
QUEUE_DESC_LOW, QUEUE_DESC_HIGH = 0x080, 0x084
QUEUE_DRIVER_LOW, QUEUE_DRIVER_HIGH = 0x090, 0x094
QUEUE_DEVICE_LOW, QUEUE_DEVICE_HIGH = 0x0A0, 0x0A4
SHM_SEL = 0x0AC
SHM_LEN_LOW, SHM_LEN_HIGH = 0x0B0, 0x0B4
SHM_BASE_LOW, SHM_BASE_HIGH = 0x0B8, 0x0BC
QUEUE_RESET = 0x0C0
CONFIG_GENERATION = 0x0FC
CONFIG = 0x100

MAGIC = int.from_bytes(b"virt", "little")
WINDOW = 0x200  # bytes that a device claims: the registers, and 256 bytes of configuration

# 2.1: how far the driver has come, and how the device is.
ACKNOWLEDGE = 1
DRIVER = 2
DRIVER_OK = 4
FEATURES_OK = 8
DEVICE_NEEDS_RESET = 64
FAILED = 128

# InterruptStatus: why there was an interrupt.
USED_BUFFER = 1
CONFIG_CHANGE = 2

# 6: features of the queues and the transport. Those of a device are with the device.
F_INDIRECT_DESC = 1 << 28
F_EVENT_IDX = 1 << 29
F_VERSION_1 = 1 << 32
