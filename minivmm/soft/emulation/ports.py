"""IN, OUT, INS, OUTS: an exit, unless a chip or a ring in the VM takes them."""

from __future__ import annotations

from functools import partial

from minivmm.kvm import constants as k
from minivmm.soft import port_io, state
from minivmm.soft.binding import lib
from minivmm.soft.emulation.group import Group, Handlers, Loop
from minivmm.soft.emulation.kinds import Kind
from minivmm.soft.engine import RAX
from minivmm.soft.exits import Result
from minivmm.soft.port_io import PortInsn, StringStep

IN, OUT = k.KVM_EXIT_IO_IN, k.KVM_EXIT_IO_OUT


class PortInstructions(Group):
    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self._retires = [partial(self.cpu.retire, length) for length in range(16)]

    def handlers(self) -> Handlers:
        return {Kind.IN: self._port, Kind.OUT: self._port, Kind.INS: self._string, Kind.OUTS: self._string}

    # ---- IN and OUT ----

    def _port(self) -> Result:
        insn = port_io.decode(self.code, self.cpu.bits)
        env, length, size = self.env, self.native.length, insn.size
        port = env.rdx & 0xFFFF if insn.port is None else insn.port
        if env.hflags & state.HF_CPL:  # ring 0 may use every port
            port_io.check_permission(self.cpu, port, size)
        if insn.is_in:
            if self.internal.has_port(port):
                self._finish_in(size, length, self.internal.port_in(port, size))
                return None
            self.exits.pending = (lambda: self._finish_in(size, length, self._answer(size))), env.rip
            return self.exits.io(IN, size, port, 1)
        value = env.rax & (1 << 8 * size) - 1
        if self.internal.port_out(port, size, value):
            self.cpu.retire(length)
            return None
        self.exits.pending = self._retires[length], env.rip
        return self.exits.io(OUT, size, port, 1, value.to_bytes(size, "little"))

    def _answer(self, size: int) -> int:
        return int.from_bytes(self.exits.page.io_data(size), "little")

    def _finish_in(self, size: int, length: int, value: int) -> None:
        rax = self.cpu.engine.get(RAX)
        mask = (1 << 8 * size) - 1
        # A 32-bit result clears the upper half of RAX, smaller ones leave it.
        self.cpu.engine.set(RAX, value if size == 4 else rax & ~mask | value & mask)
        self.cpu.retire(length)

    # ---- INS and OUTS ----

    def _string(self) -> Result:
        insn = port_io.decode(self.code, self.cpu.bits)
        length, port = self.native.length, self.env.rdx & 0xFFFF
        port_io.check_permission(self.cpu, port, insn.size)
        step = port_io.next_items(self.cpu, insn)
        if step is None:
            self.cpu.retire(length)
            return None
        return self._ins(insn, step, port, length) if insn.is_in else self._outs(insn, step, port, length)

    def _outs(self, insn: PortInsn, step: StringStep, port: int, length: int) -> Result:
        data = port_io.outs_data(self.cpu, insn, step)
        self.finish_before_exit(lambda: self._advance(insn, step, length))
        if self.internal.port_out(port, insn.size, int.from_bytes(data, "little")):
            return None
        return self.exits.io(OUT, insn.size, port, step.count, data)

    def _ins(self, insn: PortInsn, step: StringStep, port: int, length: int) -> Result:
        port_io.check_ins(self.cpu, insn, step)
        total = insn.size * step.count
        if self.internal.has_port(port):
            items = (self.internal.port_in(port, insn.size).to_bytes(insn.size, "little") for _ in range(step.count))
            self._finish_ins(insn, step, length, b"".join(items))
            return None
        page = self.exits.page
        self.exits.pending = (lambda: self._finish_ins(insn, step, length, page.io_data(total))), self.env.rip
        return self.exits.io(IN, insn.size, port, step.count)

    def _finish_ins(self, insn: PortInsn, step: StringStep, length: int, data: bytes) -> None:
        self.cpu.look()
        self.cpu.write(step.address, data, user=self.cpu.cpl == 3)
        self._advance(insn, step, length)

    def _advance(self, insn: PortInsn, step: StringStep, length: int) -> None:
        done = port_io.advance(self.cpu, insn, step)
        lib.soft_put(self.native)
        if done:
            self.cpu.retire(length)
