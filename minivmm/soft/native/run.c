/* What Python calls. */

static int soft_add_hooks(struct soft_cpu *cpu)
{
    size_t hook;
    void *block = cpu->counting ? (void *)on_counted_block : (void *)on_block, *self = cpu;

    return uc_hook_add(cpu, &hook, HOOK_BLOCK, block, self, 1ull, 0ull)
        || uc_hook_add(cpu, &hook, HOOK_EDGE, (void *)on_translation, self, 1ull, 0ull)
        || uc_hook_add(cpu, &hook, HOOK_TLB_FILL, (void *)on_tlb_miss, self, 1ull, 0ull)
        || uc_hook_add(cpu, &hook, HOOK_INTR, (void *)on_exception, self, 1ull, 0ull)
        || uc_hook_add(cpu, &hook, HOOK_INVALID, (void *)on_invalid, self, 1ull, 0ull)
        /* No wider than the window: where such a hook may fire, each store takes the engine's slow path. */
        || uc_hook_add(cpu, &hook, HOOK_READ_UNMAPPED | HOOK_WRITE_UNMAPPED, (void *)on_ask, self, WINDOW_ASK_GPA,
                       WINDOW_ASK_GPA + WINDOW_SIZE - 1)
        || uc_hook_add(cpu, &hook, HOOK_INSN, (void *)on_rdtsc, self, 1ull, 0ull, cpu->library->insn_rdtsc)
        || uc_hook_add(cpu, &hook, HOOK_INSN, (void *)on_rdtscp, self, 1ull, 0ull, cpu->library->insn_rdtscp)
        || CALL(cpu, uc_mmio_map, int, uint64_t, size_t, void *, void *, void *, void *)(
               cpu->uc, WINDOW_ANSWER_GPA, WINDOW_SIZE, (void *)on_window_read, self, (void *)on_window_write, self);
}

static void soft_free(struct soft_cpu *cpu)
{
    free(cpu->code_pages);
    free(cpu->sites);
    memset(cpu, 0, sizeof *cpu);
}

/* Counting: what of the present block was not reached does not count. Brings env up to date. */
static void give_back(struct soft_cpu *cpu)
{
    uint64_t insns = unreached(cpu);

    cpu->retired -= insns;
    cpu->budget += insns;
    cpu->block_end = 0;
}

/* Runs until something needs Python: reason says what, env how things stand. Budget in blocks, or in instructions if
 * `counting`. */
static int soft_enter(struct soft_cpu *cpu, int64_t budget)
{
    cpu->budget = budget;
    for (;;) {
        cpu->reason = -1;
        cpu->error = uc_emu_start(cpu, reg(cpu, cpu->library->reg_rip));
        if (cpu->reason == SOFT_FOUND) {
            hook_found(cpu);
        } else if (cpu->reason == SOFT_STALE) {
            refresh_code(cpu, PAGE_OF(cpu->fault_gpa));
        } else {
            break;
        }
    }
    if (cpu->reason < 0)
        cpu->reason = cpu->error ? SOFT_ENGINE : SOFT_HALTED;
    if (cpu->reason >= SOFT_PAGE_FAULT && cpu->reason <= SOFT_FETCH_DEVICE) {
        cpu->fault_va = *cpu->engine_fault;
        if (cpu->fault_gpa)
            cpu->fault_gpa = PAGE_OF(cpu->fault_gpa) | (cpu->fault_va & (PAGE - 1));
    }
    if (cpu->counting)
        give_back(cpu);
    else
        look(cpu);
    return cpu->reason;
}

/* The opcode at CS:RIP behind its prefixes, if it is of one byte; else 0. */
static uint8_t opcode(struct soft_cpu *cpu)
{
    uint8_t code[16] = {0}, *at = code;
    int left;

    left = fetch(cpu, linear_pc(cpu), user_mode(cpu), code, 15);
    for (; left > 0; at++, left--)
        if (!is_prefix(*at, !!(cpu->env->hflags & HF_CODE64)))
            return *at;
    return 0;
}

/* PUSHF pushed our trap flag: takes it out again. */
static void hide_trap_flag(struct soft_cpu *cpu)
{
    uint64_t top, gpa;
    int perms;

    look(cpu);
    top = cpu->env->hflags & HF_CODE64 ? cpu->env->rsp : cpu->env->ss.base + cpu->env->rsp;
    if (!(cpu->env->hflags & HF_CODE64))
        top = cpu->env->ss.flags & (1u << 22) ? (uint32_t)top : cpu->env->ss.base + (cpu->env->rsp & 0xFFFF);
    if (!walk(cpu, top + 1, ACCESS_WRITE, user_mode(cpu), &gpa, &perms) && host_at(cpu, gpa))
        *host_at(cpu, gpa) &= ~(RFLAGS_TF >> 8);
}

/* Executes one instruction, by the trap flag, as a debugger does. The guest's own TF comes back as it was, or as the
 * instruction set it. */
static int soft_step(struct soft_cpu *cpu)
{
    uint64_t flags = reg(cpu, cpu->library->reg_rflags);
    uint8_t code = opcode(cpu);
    int sets_flags = code == 0x9D || code == 0xCF; /* POPF, IRET */

    cpu->stepping = 1;
    set_reg(cpu, cpu->library->reg_rflags, flags | RFLAGS_TF);
    soft_enter(cpu, 1 << 20);
    cpu->stepping = 0;
    if (!sets_flags || cpu->reason != SOFT_STEPPED)
        set_reg(cpu, cpu->library->reg_rflags, (reg(cpu, cpu->library->reg_rflags) & ~RFLAGS_TF) | (flags & RFLAGS_TF));
    if (code == 0x9C && cpu->reason == SOFT_STEPPED && !(flags & RFLAGS_TF))
        hide_trap_flag(cpu);
    if (cpu->found_count)
        hook_found(cpu);
    look(cpu);
    return cpu->reason;
}

/* The GPA of a linear address, as the processor itself (user = 0) or user code would find it: 0, or SOFT_*. */
static int soft_translate(struct soft_cpu *cpu, uint64_t va, int access, int user, uint64_t *gpa)
{
    int perms, failed = walk(cpu, va, access, user, gpa, &perms);
    struct soft_slot *slot;

    if (!failed && access == ACCESS_WRITE && (slot = slot_at(cpu, *gpa)))
        mark_dirty(slot, *gpa);
    return failed;
}

/* Goes on behind an instruction of `length` bytes that somebody emulated. Returns RFLAGS.TF: a trap is due. */
static int soft_retire(struct soft_cpu *cpu, int length)
{
    struct soft_env *env = cpu->env;

    look(cpu);
    env->rip += length;
    if (!(env->hflags & HF_CODE64))
        env->rip &= env->hflags & HF_CODE32 ? 0xFFFFFFFF : 0xFFFF;
    env->hflags &= ~(HF_SHADOW | RFLAGS_RF);
    env->rflags &= ~RFLAGS_RF;
    cpu->retired++;
    CALL(cpu, uc_context_restore, int, void *)(cpu->uc, cpu->context);
    return !!(env->rflags & RFLAGS_TF);
}

/* The registers in the order of struct kvm_regs: 16 general ones, RIP, RFLAGS. */
static void soft_get_regs(struct soft_cpu *cpu, uint64_t *regs)
{
    int i;

    for (i = 0; i < 16; i++)
        regs[i] = reg(cpu, cpu->library->reg_gprs[i]);
    regs[16] = reg(cpu, cpu->library->reg_rip);
    regs[17] = reg(cpu, cpu->library->reg_rflags);
}

static void soft_set_regs(struct soft_cpu *cpu, const uint64_t *regs)
{
    int i;

    for (i = 0; i < 16; i++)
        set_reg(cpu, cpu->library->reg_gprs[i], regs[i]);
    set_reg(cpu, cpu->library->reg_rflags, regs[17]);
    set_reg(cpu, cpu->library->reg_rip, regs[16]);
}

static uint64_t soft_get(struct soft_cpu *cpu, int which)
{
    return reg(cpu, which);
}

static void soft_set(struct soft_cpu *cpu, int which, uint64_t value)
{
    set_reg(cpu, which, value);
}

static void soft_look(struct soft_cpu *cpu)
{
    look(cpu);
}

/* Takes cpu->env, as it is now, for the engine's state. */
static void soft_put(struct soft_cpu *cpu)
{
    CALL(cpu, uc_context_restore, int, void *)(cpu->uc, cpu->context);
}

static void soft_flush_tlb(struct soft_cpu *cpu)
{
    flush_tlb(cpu);
}
