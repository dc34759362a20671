/* User code loads a segment register, and the processor reads the GDT with its own rights (SDM vol. 3, "Implicit
 * supervisor-mode accesses"). The engine asks the TLB for such an access as for any other; here we tell them apart. */

static int loads_a_descriptor(const uint8_t *at, int left, int long_code)
{
    int modrm_reg;

    while (left > 1 && (strchr("\x26\x2E\x36\x3E\x64\x65\x66\x67\xF2\xF3", at[0]) || (long_code && (at[0] & 0xF0) == 0x40)))
        at++, left--;
    if (left < 2)
        return 0;
    modrm_reg = at[1] >> 3 & 7;
    switch (at[0]) {
    case 0x07: case 0x17: case 0x1F: case 0x8E: case 0xC4: case 0xC5: /* POP and MOV to a segment register, LES, LDS */
    case 0x9A: case 0xEA: case 0xCA: case 0xCB: case 0xCF:            /* far CALL, JMP, RET; IRET */
        return 1;
    case 0xFF: return modrm_reg == 3 || modrm_reg == 5; /* far CALL and JMP through memory */
    case 0x0F:
        switch (at[1]) {
        case 0x02: case 0x03: case 0xA1: case 0xA9: case 0xB2: case 0xB4: case 0xB5: /* LAR, LSL, POP FS/GS, LSS, … */
            return 1;
        case 0x00: return left > 2 && (at[2] >> 3 & 7) >= 4; /* VERR, VERW */
        }
    }
    return 0;
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
    return loads_a_descriptor(code, got, !!(cpu->env->hflags & HF_CODE64));
}
