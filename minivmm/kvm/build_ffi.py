"""Compiles the KVM binding (cffi, API mode) when the package is installed.

API mode costs an exit less than ABI mode (benchmarks/), which counts on real hardware, where an exit takes a
microsecond. Where there is no C compiler, installation goes on without it and binding.py falls back to ABI mode.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

STRUCTS = (Path(__file__).parent / "abi.h").read_text(encoding="utf-8")

FUNCTIONS = """
int minivmm_ioctl(int fd, unsigned long request, void *argument);
int minivmm_ioctl_value(int fd, unsigned long request, unsigned long argument);
int minivmm_run(int vcpu);
int minivmm_install_kick(int signal_number);
int minivmm_signal(int thread, int signal_number);
"""

SOURCE = """
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The result, or -errno: one number, so that Python need not fetch errno with a second call. */
static int minivmm_ioctl(int fd, unsigned long request, void *argument)
{
    int result = ioctl(fd, request, argument);
    return result < 0 ? -errno : result;
}

static int minivmm_ioctl_value(int fd, unsigned long request, unsigned long argument)
{
    int result = ioctl(fd, request, argument);
    return result < 0 ? -errno : result;
}

/* KVM_RUN, _IO(0xAE, 0x80): the one call that is worth a function of its own, for its cost is paid at every exit. */
static int minivmm_run(int vcpu)
{
    return minivmm_ioctl_value(vcpu, 0xAE80, 0);
}

static void nothing(int signal_number)
{
    (void)signal_number;
}

/* A signal whose handler does nothing still makes a KVM_RUN in progress return EINTR. */
static int minivmm_install_kick(int signal_number)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = nothing;
    return sigaction(signal_number, &action, 0) < 0 ? -errno : 0;
}

/* By the kernel's thread number: pthread_kill() on a thread that has ended may crash, this only says ESRCH. */
static int minivmm_signal(int thread, int signal_number)
{
    return syscall(SYS_tgkill, getpid(), thread, signal_number) < 0 ? -errno : 0;
}
"""

ffibuilder = FFI()
ffibuilder.cdef(STRUCTS + FUNCTIONS)
ffibuilder.set_source("minivmm.kvm._kvm", STRUCTS.join(["#include <stdint.h>\n", SOURCE]))

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
