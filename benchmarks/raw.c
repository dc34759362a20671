/* The baseline: the shortest run loop that C allows. Built by exits.py with the machine's own compiler. */
#include <linux/kvm.h>
#include <stdint.h>
#include <sys/ioctl.h>

/* Runs until `exits` port or MMIO exits have come; returns a checksum of what the guest wrote, or -1. */
long run_exits(int vcpu, struct kvm_run *run, long exits)
{
    long sum = 0;
    while (exits-- > 0) {
        if (ioctl(vcpu, KVM_RUN, 0) < 0)
            return -1;
        switch (run->exit_reason) {
        case KVM_EXIT_IO:
            sum += *((uint8_t *)run + run->io.data_offset);
            break;
        case KVM_EXIT_MMIO:
            sum += run->mmio.data[0];
            break;
        default:
            return -1;
        }
    }
    return sum;
}
