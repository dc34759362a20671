/* The page walk: 32-bit, PAE and 4-level tables. Source: SDM vol. 3, chapter "Paging"; the error code: "Page-Fault
 * Exceptions". */

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80 };
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 };
#define PTE_NX (1ull << 63)

struct paging { /* how the present mode walks */
    int levels, bits, entry_size; /* bits of the address that each level takes */
    uint64_t address;             /* the bits of an entry that are an address */
    uint64_t reserved;            /* the bits that must be 0 in each entry */
};

static struct paging paging_of(struct soft_cpu *cpu)
{
    struct paging mode = {2, 10, 4, 0xFFFFF000, 0};

    if (cpu->efer & EFER_LMA || cpu->cr4 & CR4_PAE) {
        mode.levels = cpu->efer & EFER_LMA ? 4 : 3;
        mode.bits = 9;
        mode.entry_size = 8;
        mode.address = cpu->physical_mask & ~0xFFFull;
        mode.reserved = ~cpu->physical_mask & (mode.levels == 4 ? 0x000FFFFFFFFFFFFFull : 0x7FFFFFFFFFFFFFFFull);
        if (!(cpu->efer & EFER_NXE))
            mode.reserved |= PTE_NX;
    }
    return mode;
}

/* What else must be 0 in an entry that maps a large page of `size` bytes: the low bits of its address. */
static uint64_t large_reserved(struct paging *mode, uint64_t size)
{
    return mode->entry_size == 8 ? (size - 1) & ~0x1FFFull : 1ull << 21; /* bit 12 is PAT; 13 to 20 are PSE-36 */
}

static void set_bits(struct soft_cpu *cpu, uint64_t gpa, uint8_t *entry, uint8_t bits)
{
    if ((*entry & bits) != bits) {
        *entry |= bits;
        mark_dirty(slot_at(cpu, gpa), gpa);
    }
}

/* The GPA of `va` for one access, and what its entry allows besides (PROT_*). Returns 0, SOFT_NON_CANONICAL, or
 * SOFT_PAGE_FAULT with fault_code. Sets accessed and dirty bits as the processor does. */
static int walk(struct soft_cpu *cpu, uint64_t va, int access, int user, uint64_t *gpa, int *perms)
{
    struct paging mode = paging_of(cpu);
    uint32_t code = (access == ACCESS_WRITE ? PF_W : 0) | (user ? PF_U : 0);
    uint64_t rights = PTE_W | PTE_U, nx = 0, entry, size, at, table;
    uint8_t *host;
    int level, no_fetch, may_write;

    if (!(cpu->efer & EFER_LMA))
        va &= 0xFFFFFFFF;
    if (!(cpu->cr0 & CR0_PG)) {
        *gpa = va;
        *perms = PROT_R | PROT_W | PROT_X;
        return 0;
    }
    if (mode.levels == 4 && (int64_t)(va << 16) >> 16 != (int64_t)va)
        return SOFT_NON_CANONICAL;
    if (access == ACCESS_FETCH && (cpu->cr4 & CR4_SMEP || (mode.entry_size == 8 && cpu->efer & EFER_NXE)))
        code |= PF_I;

    table = reg(cpu, cpu->library->reg_cr3) & (mode.levels == 3 ? 0xFFFFFFE0 : mode.address);
    for (level = mode.levels - 1;; level--) {
        int shift = 12 + mode.bits * level, directory_pointer = mode.levels == 3 && level == 2;

        at = table + (va >> shift & ((1u << mode.bits) - 1)) * mode.entry_size;
        host = host_at(cpu, at);
        entry = 0;
        if (host)
            memcpy(&entry, host, mode.entry_size);
        if (!(entry & PTE_P)) /* a table in a hole reads as empty */
            goto fault;
        size = 1ull << shift;
        if (entry & mode.reserved)
            goto reserved;
        if (!directory_pointer) { /* a PDPTE of PAE has no rights and no accessed bit */
            rights &= entry;
            nx |= entry & PTE_NX;
        }
        if (!level)
            break;
        if (entry & PTE_PS && !directory_pointer && (mode.entry_size == 8 || cpu->cr4 & CR4_PSE)) {
            if (level == 3 || entry & large_reserved(&mode, size))
                goto reserved;
            break;
        }
        if (!directory_pointer)
            set_bits(cpu, at, host, PTE_A);
        table = entry & mode.address;
    }

    no_fetch = nx || (!user && rights & PTE_U && cpu->cr4 & CR4_SMEP);
    may_write = rights & PTE_W || !(user || cpu->cr0 & CR0_WP);
    code |= PF_P;
    if ((user && !(rights & PTE_U)) || (access == ACCESS_WRITE && !may_write) || (access == ACCESS_FETCH && no_fetch))
        goto fault;
    set_bits(cpu, at, host, access == ACCESS_WRITE ? PTE_A | PTE_D : PTE_A);
    *gpa = (entry & mode.address & ~(size - 1)) | (va & (size - 1));
    if (mode.entry_size == 4 && level)
        *gpa |= (entry >> 13 & 0xFF) << 32;
    /* Without D, a later write must come here again to set it. */
    *perms = PROT_R | (no_fetch ? 0 : PROT_X) | (may_write && *host & PTE_D ? PROT_W : 0);
    return 0;

reserved:
    code |= PF_RSVD | PF_P;
fault:
    cpu->fault_code = code;
    return SOFT_PAGE_FAULT;
}

/* Copies `size` bytes at the linear address `va`, as code is read. Returns how many could be had. */
static int fetch(struct soft_cpu *cpu, uint64_t va, int user, uint8_t *into, int size)
{
    int done = 0, perms;
    uint64_t gpa;

    while (done < size) {
        int piece = (int)(PAGE - (va & (PAGE - 1)));
        uint8_t *host;

        if (piece > size - done)
            piece = size - done;
        if (walk(cpu, va, ACCESS_FETCH, user, &gpa, &perms) || !(host = host_at(cpu, gpa)))
            break;
        memcpy(into + done, host, piece);
        done += piece;
        va += piece;
    }
    return done;
}
