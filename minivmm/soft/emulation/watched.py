"""Instructions that the engine carries out itself, but before or after which something has to be looked at."""

from __future__ import annotations

from minivmm.soft import segment_limits
from minivmm.soft.emulation.group import Group, Handlers
from minivmm.soft.emulation.kinds import Kind
from minivmm.soft.exits import Result
from minivmm.soft.processor import DEBUG, GuestFault

IRET_OPCODE = 0xCF


class WatchedInstructions(Group):
    def handlers(self) -> Handlers:
        return {
            Kind.IRET: self._iret,
            Kind.LOAD_SEGMENT: self._load_segment,
            Kind.NULL_SEGMENT: self._null_segment,
            Kind.UNKNOWN: self.loop.native_step,
            Kind.ICEBP: self._icebp,
            Kind.BREAKPOINT: self._breakpoint,
        }

    def _iret(self) -> Result:
        """The end of an NMI handler: the next NMI may come (SDM vol. 3, "Handling Multiple NMIs")."""
        result = self.loop.native_step()
        self.vcpu.events.nmi_masked = False
        self.native.watch_iret = 0
        return result

    def _load_segment(self) -> Result:
        """Limits may matter from now on. IRET is one of these, too."""
        is_iret = self.code[-1] == IRET_OPCODE
        if self.cpu.limited:
            segment_limits.check(self.cpu, self.code)
        result = self._iret() if is_iret and self.native.watch_iret else self.loop.native_step()
        self.cpu.look()
        self.cpu.notice_segments()
        return result

    def _null_segment(self) -> Result:
        """An access through FS or GS, which is null."""
        segment_limits.check(self.cpu, self.code)
        return self.loop.native_step()

    def _icebp(self) -> Result:
        """INT1: a debug trap behind the instruction."""
        self.retire()
        raise GuestFault(DEBUG)

    def _breakpoint(self) -> Result:
        """An execution breakpoint: of userspace, or of the guest's own debug registers."""
        hit = self.vcpu.debug.hit(self.native.pc)
        if self.vcpu.debug.owns_breakpoints:
            return self.exits.debug(DEBUG, hit)
        self.cpu.dr[6] = self.cpu.dr[6] & ~0xF | hit
        raise GuestFault(DEBUG)
