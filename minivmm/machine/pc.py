"""A PC for kernels: what an operating system expects to find, and virtio for the rest. No firmware, no PCI, no screen.

port        device                                       port     device
0x20, 0xA0  8259A pair, line n is IRQ n    (irqchip)     0x80     POST code
0x40, 0x61  8254 timer, IRQ 0              (irqchip)     0xF4     debug exit
0x60, 0x64  i8042 keyboard controller, IRQ 1             0x87B    boot timer
0x70        RTC, IRQ 8                                   0xCF9    reset
0x3F8       16550 UART, IRQ 4                            0x5658   VMware backdoor
0x600       ACPI: power button, power off, timer; IRQ 9
0xD0000000  virtio devices, a page each; IRQ 16 and up where there is an IOAPIC
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from minivmm.boot import firmware, layout
from minivmm.boot.image import load_image
from minivmm.boot.platform import MmioDevice, Platform
from minivmm.boot.recognise import Kind
from minivmm.bus import Device
from minivmm.devices.acpi_pm import SCI_IRQ, AcpiPm
from minivmm.devices.boot_timer import BootTimer
from minivmm.devices.i8042 import I8042
from minivmm.devices.rtc import Rtc
from minivmm.devices.vmware_backdoor import VmwareBackdoor
from minivmm.irqchip.guarded import Guarded
from minivmm.kvm.seam import Backend
from minivmm.machine.machine import Machine
from minivmm.machine.stop import Stop
from minivmm.virtio.block import VirtioBlock
from minivmm.virtio.blockfile import BlockFile
from minivmm.virtio.console import VirtioConsole
from minivmm.virtio.device import VirtioDevice
from minivmm.virtio.kvm_wiring import KvmWiring
from minivmm.virtio.mmio import VirtioMmio
from minivmm.virtio.rng import VirtioRng
from minivmm.virtio.worker import Worker

KEYBOARD_IRQ, RTC_IRQ = 1, 8
# Edge-triggered all of them, and each its own: the pins that only an IOAPIC has, or else what a PC without sound cards,
# mouse and IDE has left of the 8259A's.
IOAPIC_IRQS = (16, 17, 18, 19, 20, 21, 22, 23)
PIC_IRQS = (5, 10, 11, 12, 14, 15, 3, 7)


class Pc(Machine):
    """A Machine with all of that. `disks` are virtio disks in this order (/dev/vda, …): the caller opens and closes
    them. With `hvc` there is a virtio console too (/dev/hvc0), at which the terminal hangs. `load_kernel` describes it
    all to the kernel. Raises ValueError for more disks than there are interrupts for.
    """

    def __init__(
        self,
        memory: int = 256 << 20,
        backend: Backend | None = None,
        *,
        input: bytes = b"",
        sink: Callable[[bytes], object] | None = None,
        cpus: int = 1,
        irqchip: str = "kernel",
        disks: Iterable[BlockFile] = (),
        hvc: bool = False,
        on_boot: Callable[[int], object] = lambda ns: None,
        counted: bool = False,
    ) -> None:
        disks, most = tuple(disks), len(IOAPIC_IRQS) - 1 - hvc  # one is the entropy source's
        if len(disks) > most:
            raise ValueError(f"There are interrupts for {most} disks, not for {len(disks)}.")
        super().__init__(memory, backend, input=input, sink=sink, cpus=cpus, irqchip=irqchip, counted=counted)
        self._plugged: list[MmioDevice] = []
        self._wires = ExitStack()
        for vcpu in self.vcpus:
            firmware.set_up_processor(vcpu)
        now = self.now
        low, *high = (len(ram) for ram in layout.ram_ranges(memory))
        self.rtc = Rtc(self.irqchip.line(RTC_IRQ).set, now, self.time_of_day, low_memory=low, high_memory=sum(high))
        self.acpi = AcpiPm(self.irqchip.line(SCI_IRQ).set, now, self._power_off, self._reset)
        self.keyboard = I8042(self.irqchip.line(KEYBOARD_IRQ).set, self._reset)
        self.boot_timer = BootTimer(now, on_boot)
        self.timers.add(self.rtc)
        self.timers.add(self.acpi)
        timed: tuple[Device, ...] = (self.rtc, *self.acpi.ports)
        others: tuple[Device, ...] = (*self.keyboard.ports, self.boot_timer, self._backdoor(memory))
        for port in (*(Guarded(each, after=self.timers.changed) for each in timed), *others):
            self.ports.attach(port)
        # Where time is counted, chance is the same every time too, and no thread does things at its own pace.
        self._plug(VirtioRng(random.Random(0).randbytes) if counted else VirtioRng())
        for number, disk in enumerate(disks):
            self._plug(VirtioBlock(disk, serial=f"minivmm-{number}"), own_thread=not counted)
        if hvc:
            self.terminal = console = VirtioConsole(self._print, patient=True)
            self._plug(console, own_thread=not counted)

    @property
    def platform(self) -> Platform:
        """What a kernel has to be told."""
        return Platform(len(self.vcpus), tuple(self._plugged), apics=self.irqchip.has_apics)

    def press_power_button(self) -> None:
        self.acpi.press_power_button()

    def load_kernel(self, image: bytes, *, initrd: bytes | None = None, command_line: str = "") -> Kind:
        """Loads a bzImage, a PVH or a multiboot kernel, and puts the first vCPU at its entry. Raises BadImageError."""
        return load_image(
            self.vcpu, self.memory, image, initrd=initrd, command_line=command_line, platform=self.platform
        )

    def _backdoor(self, memory: int) -> VmwareBackdoor:
        return VmwareBackdoor(
            lambda: self.here.get_regs(), lambda **fields: self.here.update(**fields), self.time_of_day, memory=memory
        )

    def _plug(self, device: VirtioDevice, *, own_thread: bool = False) -> None:
        slot = len(self._plugged)
        irq = (IOAPIC_IRQS if self.irqchip.has_apics else PIC_IRQS)[slot]
        base = layout.VIRTIO + slot * layout.VIRTIO_STRIDE
        transport = VirtioMmio(device, self.memory, base, self.irqchip.line(irq).set)
        self.mmio.attach(transport)
        self._plugged.append(MmioDevice(base, irq))
        if own_thread:
            worker = Worker(transport)
            self._wires.callback(worker.close)
            wiring = KvmWiring(self.vm, transport, worker, irq if self.irqchip.in_kernel else None)
            self._wires.callback(wiring.close)
            worker.start()

    def _power_off(self) -> None:
        self.crew.stop(Stop("powered off", 0, cpu=self.here.index))

    def _reset(self) -> None:
        self.crew.stop(Stop("reset", 0, cpu=self.here.index))

    def close(self) -> None:
        self._wires.close()
        super().close()
