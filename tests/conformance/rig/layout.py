"""Where everything lies in the guests of this suite, and the selectors they use. Assembly knows these names too."""

from __future__ import annotations

# Guest-physical memory: RAM from 0 to RAM_SIZE, then a hole, which every mode can reach and in which nothing lives.
CODE = 0x1000  # the guest's code, entered here
SECOND = 0x2000  # a second piece of code, where a test wants one
USER = 0x3000  # by convention a stack's top for ring 3 (it grows down from here into SECOND's page)
DATA = 0x4000  # one page of zeroes for the test
IDT = 0x5000
GDT = 0x6000
TSS = 0x6800
STUBS = 0x7000  # one handler of 8 bytes for each vector: rig/stubs.py
STACK = 0x9000  # the stack's top
STACK0 = 0xA000  # RSP0 or ESP0: where ring 0 starts when ring 3 traps
IST1 = 0xB000
SPARE = 0xC000  # four more pages for the test
PML4, PDPT, PD, PT = 0x10000, 0x11000, 0x12000, 0x13000
PAE_PDPT, PAE_PD, PAE_PT = 0x14000, 0x15000, 0x16000
PD32, PT32 = 0x18000, 0x19000
RAM_SIZE = 0x40000
HOLE = 0xA0000  # the PC's hole for video memory

# The GDT. The order serves SYSCALL, SYSRET, SYSENTER and SYSEXIT, which compute selectors from one number.
CODE32, CODE16 = 0x08, 0x10
KCODE, KDATA = 0x18, 0x20  # KCODE is 64-bit in long mode, else 32-bit; so is UCODE
UCODE32, UDATA, UCODE, UDATA2 = 0x2B, 0x33, 0x3B, 0x43
TR = 0x48  # 16 bytes in long mode
ABSENT = 0x58  # a data segment that is not present
SMALL = 0x60  # a data segment of 16 bytes at DATA
FREE = 0x68  # the first entry that is the test's own

# The port that a vector's stub writes to. No device of the in-kernel irqchip lives there.
TRAP_PORT = 0xE0

SYMBOLS = {name: value for name, value in globals().copy().items() if name.isupper() and isinstance(value, int)}
