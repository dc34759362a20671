"""A process for the tests of the terminal, or for a person who wants to try it: an echoing guest and the monitor.

.venv/bin/python tests/terminal_guest.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
from one_vcpu import OneVcpu

from minivmm.accel import choose
from minivmm.machine import Machine
from minivmm.monitor import Monitor
from minivmm.terminal import Terminal
from minivmm.trace import Tracer

# mov dx, 0x3fd; wait: in al, dx; test al, 1; jz wait; mov dx, 0x3f8; in al, dx; out dx, al; cmp al, '.'; jne; hlt
ECHO = bytes.fromhex("bafd03 ec a801 74fb baf803 ec ee 3c2e 75ef f4")


def main() -> int:
    with Machine(1 << 20, choose("kvm").backend, sink=lambda data: terminal.write(data)) as machine:
        tracer = Tracer(ports=machine.ports)
        setattr(machine.vcpu, "run", tracer.wrap(machine.vcpu))  # noqa: B010
        controls = OneVcpu(machine, tracer)
        machine.load(0x1000, ECHO)
        machine.enter("real", 0x1000)
        terminal = Terminal(machine.uart.feed, leave=controls.quit, monitor=Monitor(controls).execute)
        with terminal:
            terminal.write(b"ready\r\n")
            stop = controls.run()
        print(f"ended: {stop.reason}", file=sys.stderr)
        return stop.exit_code


if __name__ == "__main__":
    sys.exit(main())
