/* What the soft backend keeps for one vCPU in C: shared with Python, field by field, through cffi.
 *
 * One text for the C compiler and for cffi's parser, as kvm/abi.h. native.c explains what it does with them.
 */

/* Functions of Unicorn and Capstone: addresses in the libraries that their Python packages brought along. */
struct soft_library {
    void *uc_emu_start, *uc_emu_stop, *uc_reg_read, *uc_reg_write, *uc_hook_add, *uc_ctl, *uc_context_save,
        *uc_context_restore, *uc_mmio_map;
    void *cs_disasm_iter;
    size_t cs_handles[3]; /* decoders of 16-, 32- and 64-bit code */
    int32_t reg_rip, reg_cs, reg_rflags, reg_rax, reg_rcx, reg_rdx, reg_cr3, reg_gprs[16], insn_rdtsc, insn_rdtscp;
};

/* The CPU inside the engine, as a uc_context holds it from RAX on. This is Unicorn 2.1.4's layout, which no header
 * promises: selfcheck.py verifies each field before the backend is used. */
struct soft_segment {
    uint32_t selector;
    uint64_t base;
    uint32_t limit, flags; /* flags: the upper half of a descriptor */
};
struct soft_env {
    uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15, rip;
    uint64_t rflags; /* all of them, while the engine rests; while it runs, some are kept in the next five */
    uint64_t cc_dst, cc_src, cc_src2;
    uint32_t cc_op;
    int32_t df; /* 1 or -1 */
    uint32_t hflags, hflags2;
    struct soft_segment es, cs, ss, ds, fs, gs, ldt, tr, gdt, idt;
    uint64_t cr0, cr1, cr2, cr3, cr4, cr5, cr6, cr7, cr8;
    uint8_t unused[96];
    uint64_t efer;
};
/* … and further on, what the last exception left. Where this begins, selfcheck.py finds out. */
struct soft_exception {
    int32_t error_code, is_int;
    uint64_t next_rip;
    uint64_t dr[8];
    void *breakpoints[4];
    int32_t old_exception;
};

/* A memory slot as guest-physical memory shows it. */
struct soft_slot {
    uint64_t gpa, size;
    uint8_t *host;
    uint8_t *dirty; /* one bit a page, as KVM_GET_DIRTY_LOG gives it; NULL where no log is kept */
    int32_t read_only;
};

/* One access to device memory by the instruction that is being stepped. */
struct soft_access {
    uint64_t gpa, value;
    uint32_t size, is_write;
};

/* A page of code: its digest when it was translated, and when that was last found true. A page in use has gpa | 1. */
struct soft_code_page {
    uint64_t gpa, digest, epoch;
};

struct soft_cpu {
    struct soft_library *library;
    void *cs_insn; /* from cs_malloc: where Capstone puts what it decodes */
    void *uc;
    void *context;          /* a uc_context */
    struct soft_env *env;   /* inside it; `look` brings it up to date */
    struct soft_exception *exception;
    uint64_t *engine_fault; /* where the engine notes the address that it failed at */

    /* when to stop */
    int64_t budget;        /* basic blocks left; instructions, if `counting` */
    volatile int32_t kick; /* any thread may set it: stop at the next block */
    int32_t watch_if;      /* stop at the first block that starts with IF = 1 */
    int32_t watch_iret;    /* stop before IRET */
    int32_t watch_pause;   /* stop before a PAUSE now and then */
    uint32_t pauses;
    uint32_t breakpoint_count;
    uint64_t breakpoints[8]; /* linear addresses to stop before */
    int32_t stepping;
    int32_t counting; /* the clock counts instructions */
    uint64_t retired; /* … of these, if `counting` */
    int64_t tsc_offset; /* RDTSC gives clock + tsc_offset: ns, or instructions */
    uint64_t tsc_aux;

    /* why it stopped */
    int32_t reason; /* SOFT_* */
    int32_t error;  /* uc_err */
    int32_t vector; /* of an exception or software interrupt */
    int32_t kind;   /* of the instruction: INSN_* */
    int32_t length; /* of the instruction, in bytes, prefixes and all */
    uint8_t insn[16];
    uint64_t pc; /* linear address of the block or instruction that we stopped at */
    uint64_t fault_va, fault_gpa;
    uint32_t fault_access; /* ACCESS_* */
    uint32_t fault_code;   /* error code of the #PF */

    /* what paging depends on; Python keeps it true */
    uint64_t cr0, cr4, efer, physical_mask;

    /* memory */
    struct soft_slot *slots;
    uint32_t slot_count, last_slot;
    int32_t physical; /* the TLB maps one to one, for the engine's own calls */

    /* device memory, while one instruction is stepped across it */
    int32_t window; /* WINDOW_* */
    uint32_t window_count;
    uint64_t window_vas[2], window_gpas[2]; /* its pages: an instruction may touch two */
    int32_t window_missed;                  /* it read more than there was an answer for */
    uint32_t access_count, answer_count;
    uint32_t element; /* how wide its accesses are, in bytes */
    struct soft_access accesses[32], answers[16];

    /* counting: the present block; and how many instructions each one has, a cache that may forget */
    uint64_t *block_pcs;
    uint32_t *block_insns;
    uint32_t block_mask;
    uint64_t block_start, block_end;

    /* the pages that we translated code from: by page, open addressing */
    struct soft_code_page *code_pages;
    uint32_t code_mask, code_count;
    uint64_t epoch;

    /* instructions that need us: those with a hook (open addressing), and those just found */
    uint64_t *sites;
    uint32_t site_mask, site_count;
    uint64_t found[64];
    uint32_t found_count;
};

