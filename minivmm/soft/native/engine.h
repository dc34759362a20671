/* Unicorn's and Capstone's interfaces, as far as the hooks use them, and the few words that all parts share.
 * Sources: unicorn/unicorn.h 2.1.4, capstone/capstone.h 5. */

enum { SOFT_BUDGET, SOFT_KICK, SOFT_WINDOW, SOFT_INSTRUCTION, SOFT_EXCEPTION, SOFT_UNDEFINED, SOFT_PAGE_FAULT,
       SOFT_NON_CANONICAL, SOFT_DEVICE, SOFT_FETCH_DEVICE, SOFT_HALTED, SOFT_FOUND, SOFT_STALE, SOFT_STEPPED,
       SOFT_ENGINE };
enum { ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH };
enum { WINDOW_NONE, WINDOW_ASK, WINDOW_ANSWER };

#define CR0_PE 1ull
#define CR0_WP (1ull << 16)
#define CR0_PG (1ull << 31)
#define CR4_PSE (1ull << 4)
#define CR4_PAE (1ull << 5)
#define CR4_SMEP (1ull << 20)
#define EFER_LMA (1ull << 10)
#define EFER_NXE (1ull << 11)
#define RFLAGS_TF (1ull << 8)
#define RFLAGS_IF (1ull << 9)
#define RFLAGS_RF (1ull << 16)
#define RFLAGS_VM (1ull << 17)
#define DESC_P (1u << 15)
#define PAGE 4096ull
#define PAGE_OF(address) ((address) & ~(PAGE - 1))

enum { UC_MEM_READ = 16, UC_MEM_WRITE, UC_MEM_FETCH, UC_MEM_READ_UNMAPPED, UC_MEM_WRITE_UNMAPPED };
enum { HOOK_INTR = 1 << 0, HOOK_INSN = 1 << 1, HOOK_CODE = 1 << 2, HOOK_BLOCK = 1 << 3, HOOK_READ_UNMAPPED = 1 << 4,
       HOOK_WRITE_UNMAPPED = 1 << 5, HOOK_INVALID = 1 << 14, HOOK_EDGE = 1 << 15, HOOK_TLB_FILL = 1 << 17 };
enum { PROT_R = 1, PROT_W = 2, PROT_X = 4 };
enum { CTL_REMOVE_CACHE = 9, CTL_FLUSH_TLB = 11 };
#define CTL_WRITE(type, count) ((int)((unsigned)(type) | (unsigned)(count) << 26 | 1u << 30))

struct tlb_entry { uint64_t paddr; int perms; };
struct block { uint64_t pc; uint16_t icount, size; };

#define CALL(cpu, name, result, ...) ((result(*)(void *, __VA_ARGS__))(cpu)->library->name)
#define uc_emu_start(cpu, pc) CALL(cpu, uc_emu_start, int, uint64_t, uint64_t, uint64_t, size_t)((cpu)->uc, pc, 0, 0, 0)
#define uc_emu_stop(cpu) ((int (*)(void *))(cpu)->library->uc_emu_stop)((cpu)->uc)
#define uc_ctl(cpu, ...) CALL(cpu, uc_ctl, int, int, ...)((cpu)->uc, __VA_ARGS__)
#define uc_hook_add(cpu, ...) CALL(cpu, uc_hook_add, int, size_t *, int, void *, void *, uint64_t, uint64_t, ...)((cpu)->uc, __VA_ARGS__)

static uint64_t reg(struct soft_cpu *cpu, int which)
{
    uint64_t value = 0;
    CALL(cpu, uc_reg_read, int, int, void *)(cpu->uc, which, &value);
    return value;
}

static void set_reg(struct soft_cpu *cpu, int which, uint64_t value)
{
    CALL(cpu, uc_reg_write, int, int, const void *)(cpu->uc, which, &value);
}

/* Brings cpu->env up to date. */
static void look(struct soft_cpu *cpu)
{
    CALL(cpu, uc_context_save, int, void *)(cpu->uc, cpu->context);
}

/* env->hflags: what translations depend on. */
enum { HF_CPL = 3, HF_SHADOW = 1 << 3, HF_CODE32 = 1 << 4, HF_CODE64 = 1 << 15 };

/* Whether a byte of code stands before the opcode: a legacy prefix, or REX. */
static int is_prefix(uint8_t byte, int long_code)
{
    return memchr("\x26\x2E\x36\x3E\x64\x65\x66\x67\xF2\xF3", byte, 10) || (long_code && (byte & 0xF0) == 0x40);
}

static void stop(struct soft_cpu *cpu, int reason)
{
    cpu->reason = reason;
    uc_emu_stop(cpu);
}

static int user_mode(struct soft_cpu *cpu)
{
    if (!(cpu->cr0 & CR0_PE))
        return 0;
    if ((reg(cpu, cpu->library->reg_cs) & 3) == 3)
        return 1;
    return !(cpu->efer & EFER_LMA) && reg(cpu, cpu->library->reg_rflags) & RFLAGS_VM;
}
