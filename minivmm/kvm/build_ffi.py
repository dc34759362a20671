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
int64_t minivmm_run(int vcpu, struct kvm_run *run);
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

/* KVM_RUN, _IO(0xAE, 0x80): the one call that is worth a function of its own, for its cost is paid at every exit.
 *
 * Returns -errno, or 0, or for a port access of one item a mark > 0 that tells this exit from all others: size, port,
 * direction, and the data written. Whoever has seen the mark before need not decode the page again. Only small data
 * gets one: bytes and commands come again and again, while wide data is new each time and would only fill memory.
 * (2 and 1 are KVM_EXIT_IO and KVM_EXIT_IO_OUT; the data of a port access lies in the second page of the mapping.)
 */
static int64_t minivmm_run(int vcpu, struct kvm_run *run)
{
    uint32_t value = 0;

    if (ioctl(vcpu, 0xAE80, 0) < 0)
        return -errno;
    if (run->exit_reason != 2 || run->io.count != 1 || run->io.data_offset != 4096 || run->io.size > sizeof value)
        return 0;
    if (run->io.direction == 1)
        memcpy(&value, (char *)run + 4096, run->io.size);
    if (value > 0xFF)
        return 0;
    return (int64_t)1 << 52 | (int64_t)run->io.direction << 51 | (int64_t)run->io.size << 48
         | (int64_t)run->io.port << 32 | value;
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
