/* What the engine calls while it runs. */

/* Counting needs to know how many instructions a block has, each time that it runs. Which block it is, its address alone
 * does not say: another address space may have another one there, and a step cuts it short. */
static uint32_t block_slot(struct soft_cpu *cpu, uint64_t pc, uint64_t *key)
{
    *key = pc ^ reg(cpu, cpu->library->reg_cr3) * 0x9E3779B97F4A7C15ull;
    return (uint32_t)((*key ^ *key >> 15) * 0x9E3779B1u >> 8) & cpu->block_mask;
}

/* 0 where it is not known, or no more. */
static uint32_t block_insns(struct soft_cpu *cpu, uint64_t pc, uint32_t size)
{
    uint64_t key;
    uint32_t i = block_slot(cpu, pc, &key);

    return cpu->block_pcs[i] == key && cpu->block_insns[i] >> 16 == size ? cpu->block_insns[i] & 0xFFFF : 0;
}

static void note_block(struct soft_cpu *cpu, uint64_t pc, uint32_t size, uint32_t insns)
{
    uint64_t key;
    uint32_t i = block_slot(cpu, pc, &key);

    cpu->block_pcs[i] = key;
    cpu->block_insns[i] = size << 16 | insns;
}

/* Nobody asks for a precise moment, as long as it is between two instructions: a block's start is one. */
static int wants_stop(struct soft_cpu *cpu)
{
    if (cpu->stepping)
        return 0;
    if (cpu->kick)
        stop(cpu, SOFT_KICK);
    else if (cpu->budget <= 0)
        stop(cpu, SOFT_BUDGET);
    else if (cpu->watch_if && reg(cpu, cpu->library->reg_rflags) & RFLAGS_IF)
        stop(cpu, SOFT_WINDOW);
    else
        return 0;
    return 1;
}

static void on_block(void *uc, uint64_t pc, uint32_t size, struct soft_cpu *cpu)
{
    (void)uc, (void)pc, (void)size;
    if (--cpu->budget <= 0 || cpu->kick | cpu->watch_if)
        wants_stop(cpu);
}

/* The same where the clock counts instructions. */
static void on_counted_block(void *uc, uint64_t pc, uint32_t size, struct soft_cpu *cpu)
{
    uint32_t insns;

    (void)uc;
    cpu->block_end = 0; /* the block before is done, all of it */
    if (wants_stop(cpu))
        return;
    insns = block_insns(cpu, pc, size);
    if (!insns) /* forgotten */
        note_block(cpu, pc, size, insns = scan(cpu, pc, size));
    if (cpu->stepping)
        insns = 1;
    cpu->retired += insns;
    cpu->budget -= insns;
    cpu->block_start = pc;
    cpu->block_end = pc + size;
}

/* A new translation, before it first runs. */
static void on_translation(void *uc, struct block *now, struct block *before, struct soft_cpu *cpu)
{
    uint32_t insns;

    (void)uc, (void)before;
    insns = scan(cpu, now->pc, now->size);
    if (cpu->counting)
        note_block(cpu, now->pc, now->size, insns);
    if (cpu->found_count && !cpu->stepping)
        stop(cpu, SOFT_FOUND);
}

static uint8_t on_tlb_miss(void *uc, uint64_t va, int type, struct tlb_entry *entry, struct soft_cpu *cpu)
{
    int access = type == UC_MEM_WRITE ? ACCESS_WRITE : type == UC_MEM_FETCH ? ACCESS_FETCH : ACCESS_READ;
    int user, failed;
    struct soft_slot *slot;
    uint64_t gpa;
    uint32_t i;

    (void)uc;
    if (cpu->physical) {
        entry->paddr = va;
        entry->perms = PROT_R | PROT_W | PROT_X;
        return 1;
    }
    for (i = 0; cpu->window && access != ACCESS_FETCH && i < cpu->window_count; i++)
        if (va == cpu->window_vas[i]) {
            entry->paddr = (cpu->window == WINDOW_ASK ? WINDOW_ASK_GPA : WINDOW_ANSWER_GPA) + i * PAGE;
            entry->perms = PROT_R | PROT_W;
            return 1;
        }
    user = user_mode(cpu);
    failed = walk(cpu, va, access, user, &gpa, &entry->perms);
    if (failed) {
        /* The processor reads descriptor tables with its own rights, also for user code (SDM vol. 3, "Access Rights"):
         * which access this was, the engine does not say. system_access() looks where it went. */
        if (!user || failed != SOFT_PAGE_FAULT || access == ACCESS_FETCH || !system_access(cpu, va)
            || walk(cpu, va, access, 0, &gpa, &entry->perms)) {
            cpu->reason = failed;
            cpu->fault_access = access;
            return 0;
        }
    }
    slot = slot_at(cpu, gpa);
    if (!slot || (access == ACCESS_WRITE && slot->read_only)) {
        cpu->reason = access == ACCESS_FETCH ? SOFT_FETCH_DEVICE : SOFT_DEVICE;
        cpu->fault_access = access;
        cpu->fault_gpa = gpa;
        return 0;
    }
    if (access == ACCESS_WRITE)
        mark_dirty(slot, gpa);
    if (slot->read_only || !is_dirty(slot, gpa)) /* the first write must come here, to be logged */
        entry->perms &= ~PROT_W;
    if (access == ACCESS_FETCH) {
        if (!code_is_current(cpu, PAGE_OF(gpa), slot->host + (PAGE_OF(gpa) - slot->gpa))) {
            cpu->reason = SOFT_STALE;
            cpu->fault_gpa = gpa;
            return 0;
        }
    } else if (!code_is_known(cpu, PAGE_OF(gpa))) {
        entry->perms &= ~PROT_X; /* the first fetch must come here, to be compared */
    }
    entry->paddr = PAGE_OF(gpa);
    return 1;
}

/* An exception, or INT n: the engine delivers none of them. */
static void on_exception(void *uc, uint32_t vector, struct soft_cpu *cpu)
{
    (void)uc;
    if (cpu->stepping && vector == 1) {
        stop(cpu, SOFT_STEPPED);
        return;
    }
    cpu->vector = vector;
    stop(cpu, SOFT_EXCEPTION);
}

static uint8_t on_invalid(void *uc, struct soft_cpu *cpu)
{
    (void)uc;
    stop(cpu, SOFT_UNDEFINED);
    return 1;
}

/* CS:RIP as a linear address. */
static uint64_t linear_pc(struct soft_cpu *cpu)
{
    uint64_t pc;

    look(cpu);
    pc = cpu->env->cs.base + cpu->env->rip;
    return cpu->efer & EFER_LMA ? pc : (uint32_t)pc;
}

/* The instructions of the present block from CS:RIP on: counted, and not reached yet. */
static uint64_t unreached(struct soft_cpu *cpu)
{
    uint8_t code[PAGE];
    uint64_t pc = linear_pc(cpu), size = cpu->block_end - pc, at = 0, insns = 0;
    size_t decoder;
    int got, length;

    if (pc < cpu->block_start || pc >= cpu->block_end || size > sizeof code)
        return 0;
    decoder = decoder_for(cpu);
    got = fetch(cpu, pc, user_mode(cpu), code, (int)size);
    for (; (int)at < got && (length = length_of(cpu, decoder, code + at, got - at, pc + at)); at += length)
        insns++;
    return insns;
}

static int64_t clock_now(struct soft_cpu *cpu)
{
    struct timespec now;

    if (cpu->counting)
        return cpu->retired - unreached(cpu);
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* RDTSC, at the rate of 1 GHz; the engine has looked at CR4.TSD before. */
static int on_rdtsc(void *uc, struct soft_cpu *cpu)
{
    uint64_t tsc;

    (void)uc;
    tsc = clock_now(cpu) + cpu->tsc_offset;
    set_reg(cpu, cpu->library->reg_rax, tsc & 0xFFFFFFFF);
    set_reg(cpu, cpu->library->reg_rdx, tsc >> 32);
    return 1;
}

static int on_rdtscp(void *uc, struct soft_cpu *cpu)
{
    set_reg(cpu, cpu->library->reg_rcx, cpu->tsc_aux & 0xFFFFFFFF);
    return on_rdtsc(uc, cpu);
}
