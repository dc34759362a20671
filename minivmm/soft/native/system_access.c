/* User code loads a segment register, and the processor reads the GDT with its own rights (SDM vol. 3, "Implicit
 * supervisor-mode accesses"). The engine asks the TLB for such an access as for any other; here we tell them apart. */

static int reads_a_descriptor(const uint8_t *at, int left, int long_code)
{
    while (left > 1 && is_prefix(at[0], long_code))
        at++, left--;
    if (left < 2)
        return 0;
    if (at[0] == 0x0F && (at[1] == 0x02 || at[1] == 0x03)) /* LAR, LSL */
        return 1;
    if (at[0] == 0x0F && at[1] == 0x00) /* VERR, VERW */
        return left > 2 && (at[2] >> 3 & 7) >= 4;
    return loads_segment(at, left);
}

static int in_table(struct soft_segment *table, uint64_t page)
{
    return page >= PAGE_OF(table->base) && page <= table->base + table->limit;
}

static int system_access(struct soft_cpu *cpu, uint64_t page)
{
    uint8_t code[16];
    int got;

    look(cpu);
    if (!in_table(&cpu->env->gdt, page) && !in_table(&cpu->env->ldt, page) && !in_table(&cpu->env->tr, page))
        return 0;
    got = fetch(cpu, cpu->env->cs.base + cpu->env->rip, 1, code, sizeof code);
    return reads_a_descriptor(code, got, !!(cpu->env->hflags & HF_CODE64));
}
