"""What student code may touch: its scratch folder, the device, and files to read, without the answers among them.

Landlock (Linux 5.13 and later) does this for an ordinary user; where the kernel lacks it, or part of it, a seccomp
filter takes over what it can and the rest stays open: the course still runs, the verdict is out of reach either way.

Source: Documentation/userspace-api/landlock.rst and seccomp_filter.rst.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from autograder.sandbox.linux import PR_SET_NO_NEW_PRIVS, prctl, syscall

CREATE_RULESET, ADD_RULE, RESTRICT_SELF, CAPSET = 444, 445, 446, 126

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE = 1 << 13, 1 << 14  # from ABI 2 and 3 on
EVERYTHING = (1 << 13) - 1
READ = EXECUTE | READ_FILE | READ_DIR
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
TCP = 1 << 0 | 1 << 1  # bind and connect, from ABI 4 on
SCOPED = 1 << 0 | 1 << 1  # abstract sockets and signals, from ABI 6 on


class Jail:
    """Rules made once, in the zygote; `enter` applies them to a child, for good."""

    def __init__(
        self, readable: Iterable[Path], hidden: Iterable[Path], devices: Iterable[Path], scratch: Path
    ) -> None:
        self.abi = max(0, syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(1)))
        self.fd = -1
        if not self.abi:
            return
        handled = EVERYTHING | (REFER if self.abi >= 2 else 0) | (TRUNCATE if self.abi >= 3 else 0)
        attributes = struct.pack("QQQ", handled, TCP if self.abi >= 4 else 0, SCOPED if self.abi >= 6 else 0)
        size = 8 if self.abi < 4 else 16 if self.abi < 6 else 24
        self.fd = syscall(CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint(0))
        self.handled = handled
        secrets = [path.resolve() for path in hidden if path.exists()]
        for path in readable:
            self._allow_but(path.resolve(), secrets)
        for device in devices:
            self._allow(device, READ_FILE | WRITE_FILE)
        self._allow(scratch, handled)

    def enter(self) -> None:
        """Shuts the calling process in. Its children are shut in with it."""
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        drop_capabilities()
        if self.fd >= 0:
            self._allow(Path("/proc/self"), READ)
            syscall(RESTRICT_SELF, ctypes.c_int(self.fd), ctypes.c_uint(0))
        refuse_calls(signals=self.abi < 6)

    def _allow_but(self, path: Path, secrets: list[Path]) -> None:
        """Makes `path` readable, but no secret in it: a folder with secrets opens entry by entry.

        Names may be listed everywhere below, since Python's import system lists folders; contents are what matters.
        """
        if any(path.is_relative_to(secret) for secret in secrets):
            return
        if not any(secret.is_relative_to(path) for secret in secrets):
            self._allow(path, READ)
            return
        self._allow(path, READ_DIR)
        with suppress(OSError):
            for entry in path.iterdir():
                self._allow_but(entry, secrets)

    def _allow(self, path: Path, access: int) -> None:
        with suppress(OSError):
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            if not path.is_dir():
                access &= ON_FILES
            rule = struct.pack("=Qi", access & self.handled, fd)
            syscall(ADD_RULE, ctypes.c_int(self.fd), ctypes.c_int(1), rule, ctypes.c_uint(0))
            os.close(fd)


def drop_capabilities() -> None:
    """What root may do and students may not. Opening a device that belongs to another user stays (CAP_DAC_OVERRIDE)."""
    if os.geteuid() == 0:
        keep = 1 << 1
        header = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
        syscall(CAPSET, header, struct.pack("6I", keep, keep, 0, 0, 0, 0))


# System calls of x86-64 by number (arch/x86/entry/syscalls/syscall_64.tbl).
SOCKET, CLONE, FORK, VFORK, KILL, PTRACE, TKILL, TGKILL, CLONE3 = 41, 56, 57, 58, 62, 101, 200, 234, 435
# fork, vfork, ptrace, process_vm_readv, process_vm_writev, io_uring_setup (calls that no filter sees), pidfd_getfd
ALWAYS_REFUSED = (FORK, VFORK, PTRACE, 310, 311, 425, 438)
SIGNALS_REFUSED = (TKILL, 129, 297, 424)  # tkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal
CLONE_THREAD = 0x10000
LOAD, JEQ, JGE, JSET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF_LD|W|ABS, BPF_JMP|…|K, BPF_RET|K
ALLOW, KILL_IT = 0x7FFF0000, 0x80000000  # SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS
REFUSE, UNKNOWN = 0x00050000 | 1, 0x00050000 | 38  # SECCOMP_RET_ERRNO with EPERM, with ENOSYS
X86_64 = 0xC000003E  # AUDIT_ARCH_X86_64

Instruction = tuple[int, int, int, int]


def refuse_calls(signals: bool) -> None:
    """Refuses new processes, the network, other processes' memory, and, if `signals`, signals to anyone but oneself.

    Threads stay allowed. No lab needs a second process, and a fork bomb of root's is stopped by nothing else: the
    kernel does not count root's processes. Needs PR_SET_NO_NEW_PRIVS, for good.
    """
    if platform.machine() != "x86_64":
        return
    program: list[Instruction] = [(LOAD, 0, 0, 4), (JEQ, 1, 0, X86_64), (RETURN, 0, 0, KILL_IT), (LOAD, 0, 0, 0)]
    program += [(JGE, 0, 1, 0x40000000), (RETURN, 0, 0, REFUSE)]  # the x32 calls: the same by other numbers
    for number in ALWAYS_REFUSED + (SIGNALS_REFUSED if signals else ()):
        program += [(JEQ, 0, 1, number), (RETURN, 0, 0, REFUSE)]
    # clone3 has its flags in memory, where a filter can't look; for ENOSYS the C library falls back to clone.
    program += [(JEQ, 0, 1, CLONE3), (RETURN, 0, 0, UNKNOWN)]
    program += _if_called(CLONE, [(JSET, 1, 0, CLONE_THREAD)])
    program += _if_called(SOCKET, [(JEQ, 1, 0, 1)])  # AF_UNIX
    if signals:
        for number in (KILL, TGKILL):
            program += _if_called(number, [(JEQ, 2, 0, os.getpid()), (JEQ, 1, 0, 0)])
    program.append((RETURN, 0, 0, ALLOW))
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(buffer))
    syscall(317, ctypes.c_uint(1), ctypes.c_uint(0), filter)  # seccomp(SECCOMP_SET_MODE_FILTER, 0, &filter)


def _if_called(number: int, tests: list[Instruction]) -> list[Instruction]:
    """Refuses the call `number` unless a test of its first argument (low 32 bits) jumps past the refusal."""
    body = [(LOAD, 0, 0, 16), *tests, (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
    return [(JEQ, 0, len(body), number), *body]
