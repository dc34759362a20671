/* Whether translated code is still what memory holds.
 *
 * The engine sees the guest's own writes to code. It does not see ours: the host writes guest memory whenever it likes,
 * and so do the other vCPUs, each of which is an engine of its own. So each page that code comes from is copied when it
 * is first fetched, and compared again whenever somebody else may have written: once an epoch, at the first fetch.
 */

#define MANY_CODE_PAGES 64

static uint32_t code_slot(struct soft_cpu *cpu, uint64_t gpa)
{
    uint32_t i = (uint32_t)(gpa / PAGE * 0x9E3779B1u) & cpu->code_mask;

    while (cpu->code_copies[i] && cpu->code_gpas[i] != gpa)
        i = (i + 1) & cpu->code_mask;
    return i;
}

static int code_grow(struct soft_cpu *cpu)
{
    struct soft_cpu bigger = *cpu;
    uint32_t i, room = cpu->code_mask ? 2 * (cpu->code_mask + 1) : 256;

    bigger.code_mask = room - 1;
    bigger.code_gpas = calloc(room, sizeof *bigger.code_gpas);
    bigger.code_epochs = calloc(room, sizeof *bigger.code_epochs);
    bigger.code_copies = calloc(room, sizeof *bigger.code_copies);
    if (!bigger.code_gpas || !bigger.code_epochs || !bigger.code_copies)
        return 0;
    for (i = 0; cpu->code_mask && i <= cpu->code_mask; i++)
        if (cpu->code_copies[i]) {
            uint32_t to = code_slot(&bigger, cpu->code_gpas[i]);
            bigger.code_gpas[to] = cpu->code_gpas[i];
            bigger.code_epochs[to] = cpu->code_epochs[i];
            bigger.code_copies[to] = cpu->code_copies[i];
        }
    free(cpu->code_gpas);
    free(cpu->code_epochs);
    free(cpu->code_copies);
    *cpu = bigger;
    return 1;
}

/* 1 if code from this page may run: it is as it was when it was translated, or new. 0: drop the translations first. */
static int code_is_current(struct soft_cpu *cpu, uint64_t gpa, const uint8_t *host)
{
    uint32_t i;

    if (2 * cpu->code_count >= cpu->code_mask && !code_grow(cpu))
        return 1;
    i = code_slot(cpu, gpa);
    if (!cpu->code_copies[i]) {
        cpu->code_copies[i] = malloc(PAGE);
        if (!cpu->code_copies[i])
            return 1;
        cpu->code_gpas[i] = gpa;
        cpu->code_count++;
        memcpy(cpu->code_copies[i], host, PAGE);
    } else if (cpu->code_epochs[i] != cpu->epoch && memcmp(cpu->code_copies[i], host, PAGE)) {
        return 0;
    }
    cpu->code_epochs[i] = cpu->epoch;
    return 1;
}

/* Whether the page was compared in this epoch, so that the TLB may let fetches through. */
static int code_is_known(struct soft_cpu *cpu, uint64_t gpa)
{
    uint32_t i;

    if (!cpu->code_count)
        return 0;
    i = code_slot(cpu, gpa);
    return cpu->code_copies[i] && cpu->code_epochs[i] == cpu->epoch;
}

static void flush_tlb(struct soft_cpu *cpu)
{
    uc_ctl(cpu, CTL_WRITE(CTL_FLUSH_TLB, 0));
}

/* Drops the translations of a page of code. The engine wants a linear address and asks the TLB for the physical one: for
 * this call, the TLB maps one to one. */
static void drop_code(struct soft_cpu *cpu, uint64_t gpa)
{
    flush_tlb(cpu);
    cpu->physical = 1;
    uc_ctl(cpu, CTL_WRITE(CTL_REMOVE_CACHE, 2), gpa, gpa + PAGE);
    cpu->physical = 0;
    flush_tlb(cpu);
}

static void refresh_code(struct soft_cpu *cpu, uint64_t gpa)
{
    uint32_t i = code_slot(cpu, gpa);
    uint8_t *host = host_at(cpu, gpa);

    drop_code(cpu, gpa);
    if (host && cpu->code_copies[i]) {
        memcpy(cpu->code_copies[i], host, PAGE);
        cpu->code_epochs[i] = cpu->epoch;
    }
}

/* Memory may have been written by somebody else. A few pages are compared at once; of many, each at its next fetch. */
static void soft_memory_changed(struct soft_cpu *cpu)
{
    uint32_t i;

    if (!cpu->code_count)
        return;
    if (cpu->code_count > MANY_CODE_PAGES) {
        cpu->epoch++;
        flush_tlb(cpu);
        return;
    }
    for (i = 0; i <= cpu->code_mask; i++)
        if (cpu->code_copies[i]) {
            uint8_t *host = host_at(cpu, cpu->code_gpas[i]);
            if (host && memcmp(cpu->code_copies[i], host, PAGE))
                refresh_code(cpu, cpu->code_gpas[i]);
        }
}

/* The start of KVM_RUN: userspace had its turn. 0 where it took away the memory behind a slot (ENOMEM by msync). */
static int soft_begin(struct soft_cpu *cpu)
{
    uint32_t i;

#ifndef _WIN32
    for (i = 0; i < cpu->slot_count; i++)
        if (msync(cpu->slots[i].host, cpu->slots[i].size, MS_ASYNC))
            return 0;
#endif
    soft_memory_changed(cpu);
    return 1;
}

/* A slot went away, or changed: what was translated from it is void. */
static void soft_forget_code(struct soft_cpu *cpu, uint64_t gpa, uint64_t size)
{
    uint32_t i;

    for (i = 0; cpu->code_count && i <= cpu->code_mask; i++)
        if (cpu->code_copies[i] && cpu->code_gpas[i] - gpa < size) {
            drop_code(cpu, cpu->code_gpas[i]);
            memset(cpu->code_copies[i], 0, PAGE);
            cpu->code_epochs[i] = cpu->epoch - 1;
        }
    flush_tlb(cpu);
}

/* We wrote [gpa, gpa + size) ourselves, for the processor: a stack frame, say. Seldom is that a page of code. */
static void soft_written(struct soft_cpu *cpu, uint64_t gpa, uint64_t size)
{
    uint64_t page;

    for (page = PAGE_OF(gpa); cpu->code_count && page < gpa + size; page += PAGE)
        if (cpu->code_copies[code_slot(cpu, page)])
            refresh_code(cpu, page);
}
