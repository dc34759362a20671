/* Whether translated code is still what memory holds.
 *
 * The engine sees the guest's own writes to code. It does not see ours: the host writes guest memory whenever it likes,
 * and so do the other vCPUs, each of which is an engine of its own. So each page that code comes from is digested when it
 * is first fetched, and again whenever somebody else may have written: once an epoch, at the first fetch.
 */

#define MANY_CODE_PAGES 64
#define LANES 8 /* so many words at once: a multiplication takes three cycles, but one can begin in each */
#define ODD 0x9E3779B97F4A7C15ull

/* 64 bits of a page. Two pages that differ in one word never have the same: each step can be undone. For all others it
 * is one chance in 2^64, which a guest could raise only to hurt itself. */
static uint64_t digest(const uint8_t *page)
{
    uint64_t lanes[LANES] = {0}, words[LANES], all = 0;
    int at, i;

    for (at = 0; at < (int)PAGE; at += sizeof words) {
        memcpy(words, page + at, sizeof words);
        for (i = 0; i < LANES; i++) {
            lanes[i] = (lanes[i] ^ words[i]) * ODD;
            lanes[i] = lanes[i] << 31 | lanes[i] >> 33;
        }
    }
    for (i = 0; i < LANES; i++)
        all = (all ^ lanes[i]) * ODD;
    return all;
}

/* The entry of a page, or the free one where it would go. */
static struct soft_code_page *code_page(struct soft_cpu *cpu, uint64_t gpa)
{
    uint32_t i = (uint32_t)(gpa / PAGE * 0x9E3779B1u) & cpu->code_mask;

    while (cpu->code_pages[i].gpa && cpu->code_pages[i].gpa != (gpa | 1))
        i = (i + 1) & cpu->code_mask;
    return cpu->code_pages + i;
}

static int code_grow(struct soft_cpu *cpu)
{
    struct soft_code_page *old = cpu->code_pages;
    uint32_t i, room = cpu->code_mask ? 2 * (cpu->code_mask + 1) : 256, had = cpu->code_mask ? cpu->code_mask + 1 : 0;

    cpu->code_pages = calloc(room, sizeof *old);
    if (!cpu->code_pages) {
        cpu->code_pages = old;
        return 0;
    }
    cpu->code_mask = room - 1;
    for (i = 0; i < had; i++)
        if (old[i].gpa)
            *code_page(cpu, PAGE_OF(old[i].gpa)) = old[i];
    free(old);
    return 1;
}

/* 1 if code from this page may run: it is as it was when it was translated, or new. 0: drop the translations first. */
static int code_is_current(struct soft_cpu *cpu, uint64_t gpa, const uint8_t *host)
{
    struct soft_code_page *page;

    if (2 * cpu->code_count >= cpu->code_mask && !code_grow(cpu))
        return 1;
    page = code_page(cpu, gpa);
    if (!page->gpa) {
        page->gpa = gpa | 1;
        page->digest = digest(host);
        cpu->code_count++;
    } else if (page->epoch != cpu->epoch && page->digest != digest(host)) {
        return 0;
    }
    page->epoch = cpu->epoch;
    return 1;
}

/* Whether the page was compared in this epoch, so that the TLB may let fetches through. */
static int code_is_known(struct soft_cpu *cpu, uint64_t gpa)
{
    struct soft_code_page *page;

    if (!cpu->code_count)
        return 0;
    page = code_page(cpu, gpa);
    return page->gpa && page->epoch == cpu->epoch;
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
    struct soft_code_page *page = code_page(cpu, gpa);
    uint8_t *host = host_at(cpu, gpa);

    drop_code(cpu, gpa);
    if (host && page->gpa) {
        page->digest = digest(host);
        page->epoch = cpu->epoch;
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
        if (cpu->code_pages[i].gpa) {
            uint64_t gpa = PAGE_OF(cpu->code_pages[i].gpa);
            uint8_t *host = host_at(cpu, gpa);
            if (host && cpu->code_pages[i].digest != digest(host))
                refresh_code(cpu, gpa);
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

    for (i = 0; cpu->code_count && i <= cpu->code_mask; i++) {
        struct soft_code_page *page = cpu->code_pages + i;
        if (page->gpa && PAGE_OF(page->gpa) - gpa < size) {
            drop_code(cpu, PAGE_OF(page->gpa));
            page->digest = 0;
            page->epoch = cpu->epoch - 1;
        }
    }
    flush_tlb(cpu);
}

/* We wrote [gpa, gpa + size) ourselves, for the processor: a stack frame, say. Seldom is that a page of code. */
static void soft_written(struct soft_cpu *cpu, uint64_t gpa, uint64_t size)
{
    uint64_t page;

    for (page = PAGE_OF(gpa); cpu->code_count && page < gpa + size; page += PAGE)
        if (code_page(cpu, page)->gpa)
            refresh_code(cpu, page);
}
