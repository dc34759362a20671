/* The instructions that the engine can't carry out alone: found in each new translation, before it first runs.
 *
 * IN and OUT and HLT are for the VMM, MSRs and CPUID are ours to answer, SYSCALL the engine leaves undone. Each gets a
 * hook at its address, which stops the engine before it. The hooks stay; an address where other code lies by now costs
 * a look at its bytes. Source of the opcodes: SDM vol. 2, appendix "Opcode Map".
 */

enum { INSN_NONE, INSN_IN, INSN_OUT, INSN_INS, INSN_OUTS, INSN_HLT, INSN_RDMSR, INSN_WRMSR, INSN_CPUID, INSN_SYSCALL,
       INSN_SYSENTER, INSN_HYPERCALL, INSN_MOV_TO_CR, INSN_MOV_FROM_CR, INSN_MOV_TO_DR, INSN_MOV_FROM_DR, INSN_LMSW,
       INSN_XSETBV, INSN_ABSENT, INSN_IRET, INSN_UNKNOWN, INSN_BREAKPOINT,
       INSN_LOAD_SEGMENT, INSN_NULL_SEGMENT, INSN_ICEBP, INSN_PAUSE };

static int kind_of_0f(const uint8_t *at, int left)
{
    uint8_t modrm = left > 1 ? at[1] : 0;

    switch (at[0]) {
    case 0x01:
        switch (modrm) {
        case 0xC1: case 0xD9: return INSN_HYPERCALL; /* VMCALL, VMMCALL */
        case 0xC8: case 0xC9: return INSN_ABSENT;    /* MONITOR, MWAIT: CPUID has none */
        case 0xD1: return INSN_XSETBV;
        }
        return (modrm >> 3 & 7) == 6 ? INSN_LMSW : INSN_NONE;
    case 0x05: return INSN_SYSCALL;
    case 0x20: return (modrm >> 3 & 7) == 0 ? INSN_MOV_FROM_CR : INSN_NONE; /* CR0, or CR8 with REX.R */
    case 0x21: return INSN_MOV_FROM_DR;
    case 0x22: return (modrm >> 3 & 7) == 3 ? INSN_NONE : INSN_MOV_TO_CR; /* CR3 goes at full speed */
    case 0x23: return INSN_MOV_TO_DR;
    case 0x30: return INSN_WRMSR;
    case 0x32: return INSN_RDMSR;
    case 0x34: return INSN_SYSENTER;
    case 0xA2: return INSN_CPUID;
    }
    return INSN_NONE;
}

/* Whether it loads a segment register: in protected mode, limits may matter from then on (segment_limits.py). */
static int loads_segment(const uint8_t *at, int left)
{
    int field = left > 1 ? at[1] >> 3 & 7 : 0;

    switch (at[0]) {
    case 0x07: case 0x17: case 0x1F: case 0x8E: case 0xC4: case 0xC5: /* POP and MOV to one, LES, LDS */
    case 0x9A: case 0xEA: case 0xCA: case 0xCB: case 0xCF:            /* far CALL, JMP, RET; IRET */
        return 1;
    case 0xFF: return field == 3 || field == 5; /* far CALL and JMP through memory */
    case 0x0F: return left > 1 && (at[1] == 0xA1 || at[1] == 0xA9 || at[1] == 0xB2 || at[1] == 0xB4 || at[1] == 0xB5);
    }
    return 0;
}

enum { CODE_PLAIN, CODE_LONG, CODE_SEGMENTED }; /* … in real, long and other protected modes */

/* A VEX prefix before anything but BMI: the engine takes AVX for SSE, where CPUID says that there is none. Source: SDM
 * vol. 2, "The VEX Prefix"; opcode map of VEX-encoded general-purpose instructions. */
static int is_avx(const uint8_t *at, int left, int mode)
{
    int map, op;

    if (left < 3 || (at[0] != 0xC4 && at[0] != 0xC5) || mode == CODE_PLAIN || (mode != CODE_LONG && at[1] < 0xC0))
        return 0;
    if (at[0] == 0xC5)
        return 1;
    map = at[1] & 0x1F;
    op = left > 3 ? at[3] : 0;
    return !((map == 2 && (op == 0xF2 || op == 0xF3 || (op >= 0xF5 && op <= 0xF7))) || (map == 3 && op == 0xF0));
}


static int code_mode(struct soft_cpu *cpu)
{
    if (cpu->env->hflags & HF_CODE64)
        return CODE_LONG;
    return cpu->cr0 & CR0_PE && !(cpu->env->rflags & RFLAGS_VM) ? CODE_SEGMENTED : CODE_PLAIN;
}

/* What the instruction at `at` is to us: INSN_*. */
static int kind_of(const uint8_t *at, int left, int mode)
{
    const uint8_t *start = at;
    int plain = INSN_NONE;

    for (; left > 0; at++, left--)
        switch (at[0]) {
        case 0x64: case 0x65: /* FS and GS are often null where segments matter: an access by them may be a fault */
            if (mode == CODE_SEGMENTED)
                plain = INSN_NULL_SEGMENT;
            continue;
        case 0x26: case 0x2E: case 0x36: case 0x3E: case 0x66: case 0x67: case 0xF2: case 0xF3:
            continue;
        case 0xF0: /* LOCK makes all of them #UD, but for AMD's way to CR8 */
            return left > 3 && at[1] == 0x0F && (at[2] & 0xFD) == 0x20 ? kind_of_0f(at + 2, left - 2) : INSN_NONE;
        case 0x6C: case 0x6D: return INSN_INS;
        case 0x6E: case 0x6F: return INSN_OUTS;
        case 0xE4: case 0xE5: case 0xEC: case 0xED: return INSN_IN;
        case 0xE6: case 0xE7: case 0xEE: case 0xEF: return INSN_OUT;
        case 0xCF: return mode == CODE_SEGMENTED ? INSN_LOAD_SEGMENT : INSN_IRET; /* NMIs may come again */
        case 0x90: return at != start && at[-1] == 0xF3 ? INSN_PAUSE : plain; /* F3 makes NOP a PAUSE */
        case 0xF1: return INSN_ICEBP;
        case 0xF4: return INSN_HLT;
        case 0x0F:
            if (mode == CODE_SEGMENTED && loads_segment(at, left))
                return INSN_LOAD_SEGMENT;
            return left > 1 && kind_of_0f(at + 1, left - 1) ? kind_of_0f(at + 1, left - 1) : plain;
        default:
            if (mode == CODE_LONG && (at[0] & 0xF0) == 0x40)
                continue;
            if (is_avx(at, left, mode))
                return INSN_ABSENT;
            return mode == CODE_SEGMENTED && loads_segment(at, left) ? INSN_LOAD_SEGMENT : plain;
        }
    return INSN_NONE;
}

/* ---- disassembly: where the instructions begin ---- */

struct decoded { unsigned int id; uint64_t address; uint16_t size; }; /* the head of Capstone's cs_insn */

static size_t decoder_for(struct soft_cpu *cpu)
{
    uint32_t flags = cpu->env->hflags;
    return cpu->library->cs_handles[flags & HF_CODE64 ? 2 : flags & HF_CODE32 ? 1 : 0];
}

/* The length of the instruction at `at`, or 0 where Capstone does not know it. */
static int length_of(struct soft_cpu *cpu, size_t decoder, const uint8_t *at, size_t left, uint64_t address)
{
    typedef unsigned char next(size_t, const uint8_t **, size_t *, uint64_t *, void *);
    struct decoded *insn = cpu->cs_insn;
    return ((next *)cpu->library->cs_disasm_iter)(decoder, &at, &left, &address, insn) ? insn->size : 0;
}

/* ---- the addresses that have a hook ---- */

static uint32_t site_slot(uint64_t *sites, uint32_t mask, uint64_t pc)
{
    uint32_t i = (uint32_t)((pc ^ pc >> 17) * 0x9E3779B1u) & mask;

    while (sites[i] && sites[i] != pc + 1) /* + 1, because 0 is an address too */
        i = (i + 1) & mask;
    return i;
}

static int is_site(struct soft_cpu *cpu, uint64_t pc)
{
    return cpu->site_count && cpu->sites[site_slot(cpu->sites, cpu->site_mask, pc)];
}

static void note_site(struct soft_cpu *cpu, uint64_t pc)
{
    if (2 * cpu->site_count >= cpu->site_mask) {
        uint32_t i, room = cpu->site_mask ? 2 * (cpu->site_mask + 1) : 64;
        uint64_t *bigger = calloc(room, sizeof *bigger);

        if (!bigger)
            return;
        for (i = 0; cpu->site_mask && i <= cpu->site_mask; i++)
            if (cpu->sites[i])
                bigger[site_slot(bigger, room - 1, cpu->sites[i] - 1)] = cpu->sites[i];
        free(cpu->sites);
        cpu->sites = bigger;
        cpu->site_mask = room - 1;
    }
    cpu->sites[site_slot(cpu->sites, cpu->site_mask, pc)] = pc + 1;
    cpu->site_count++;
}

/* Goes through the block of code [pc, pc + size) and notes the instructions that need a hook and have none yet. Returns
 * how many instructions there are. */
static uint32_t scan(struct soft_cpu *cpu, uint64_t pc, uint32_t size)
{
    uint8_t code[PAGE + 16];
    uint32_t at = 0, count = 0, got;
    size_t decoder;
    int mode;

    look(cpu);
    decoder = decoder_for(cpu);
    mode = code_mode(cpu);
    got = fetch(cpu, pc, user_mode(cpu), code, size < sizeof code ? size : sizeof code);
    while (at < got && cpu->found_count < sizeof cpu->found / sizeof *cpu->found) {
        int kind = kind_of(code + at, got - at, mode);
        int length = length_of(cpu, decoder, code + at, got - at, pc + at);

        /* What Capstone can't read may hide what follows: we stop there too, step, and look at the rest anew. */
        if ((kind || !length) && !is_site(cpu, pc + at))
            cpu->found[cpu->found_count++] = pc + at;
        if (!length)
            break;
        at += length;
        count++;
    }
    return count;
}

/* What lies at CS:RIP, into kind, length, insn and pc. */
static int soft_peek(struct soft_cpu *cpu)
{
    int got;

    look(cpu);
    cpu->pc = cpu->env->cs.base + cpu->env->rip;
    if (!(cpu->efer & EFER_LMA))
        cpu->pc &= 0xFFFFFFFF;
    memset(cpu->insn, 0, sizeof cpu->insn);
    got = fetch(cpu, cpu->pc, user_mode(cpu), cpu->insn, 15);
    cpu->length = length_of(cpu, decoder_for(cpu), cpu->insn, got, cpu->pc);
    cpu->kind = cpu->length ? kind_of(cpu->insn, cpu->length, code_mode(cpu)) : INSN_UNKNOWN;
    return cpu->kind;
}

/* A guest that pauses so often waits for another vCPU, which waits for its turn. */
#define MANY_PAUSES 32

static int is_breakpoint(struct soft_cpu *cpu, uint64_t pc)
{
    uint32_t i;

    for (i = 0; i < cpu->breakpoint_count; i++)
        if (cpu->breakpoints[i] == pc)
            return 1;
    return 0;
}

static void on_site(void *uc, uint64_t pc, uint32_t size, struct soft_cpu *cpu)
{
    (void)uc, (void)size;
    if (cpu->stepping)
        return;
    soft_peek(cpu);
    if (is_breakpoint(cpu, pc) && !(cpu->env->rflags & RFLAGS_RF)) /* RF lets one instruction run over it */
        cpu->kind = INSN_BREAKPOINT;
    if (cpu->kind == INSN_PAUSE && !(cpu->watch_pause && ++cpu->pauses % MANY_PAUSES == 0))
        return;
    if (cpu->kind == INSN_NONE || (cpu->kind == INSN_IRET && !cpu->watch_iret)
        || (cpu->kind == INSN_NULL_SEGMENT && cpu->env->fs.flags & DESC_P && cpu->env->gs.flags & DESC_P))
        return; /* other code lies here by now, or nobody asked */
    stop(cpu, SOFT_INSTRUCTION);
}

/* Hooks what the last scan found, and drops the translation that was made without those hooks. */
static void hook_found(struct soft_cpu *cpu)
{
    size_t hook;
    uint32_t i;

    for (i = 0; i < cpu->found_count; i++) {
        uint64_t pc = cpu->found[i];
        uc_hook_add(cpu, &hook, HOOK_CODE, (void *)on_site, (void *)cpu, pc, pc);
        note_site(cpu, pc);
        uc_ctl(cpu, CTL_WRITE(CTL_REMOVE_CACHE, 2), pc, pc + 1);
    }
    cpu->found_count = 0;
}

/* Has the engine stop before `pc`, a linear address, as it does before the instructions that need us. */
static void soft_add_site(struct soft_cpu *cpu, uint64_t pc)
{
    if (is_site(cpu, pc))
        return;
    cpu->found[0] = pc;
    cpu->found_count = 1;
    hook_found(cpu);
}
