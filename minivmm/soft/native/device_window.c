/* Device memory: one instruction is stepped while its device page is mapped to a window.
 *
 * ASK: nothing lies behind the window, and the engine tells us of each access, exactly. A write is noted, and the
 * instruction is done. A read stops the engine before the register changes; userspace finds the answer, and the same
 * instruction is stepped again with ANSWER, where reads come from the answers we have.
 */

#define WINDOW_ASK_GPA 0x7FFFFFFFE000ull
#define WINDOW_ANSWER_GPA 0x7FFFFFFFC000ull
#define WINDOW_SIZE (2 * PAGE)

/* What the `offset` in a window stands for. */
static uint64_t device_gpa(struct soft_cpu *cpu, uint64_t offset)
{
    return cpu->window_gpas[offset / PAGE & 1] + offset % PAGE;
}

static void note_access(struct soft_cpu *cpu, uint64_t gpa, uint32_t size, uint64_t value, int is_write)
{
    struct soft_access *access;

    if (cpu->access_count >= sizeof cpu->accesses / sizeof *cpu->accesses)
        return;
    access = &cpu->accesses[cpu->access_count++];
    access->gpa = gpa;
    access->size = size;
    access->value = value;
    access->is_write = is_write;
}

static uint8_t on_ask(void *uc, int type, uint64_t gpa, int size, int64_t value, struct soft_cpu *cpu)
{
    (void)uc;
    if (gpa - WINDOW_ASK_GPA < WINDOW_SIZE)
        note_access(cpu, device_gpa(cpu, gpa - WINDOW_ASK_GPA), size, value, type == UC_MEM_WRITE_UNMAPPED);
    return 0;
}

/* The byte at `gpa`: ROM has it, or an answer; else it has to be asked for first. */
static uint8_t answered(struct soft_cpu *cpu, uint64_t gpa, int *missed)
{
    uint8_t *rom = host_at(cpu, gpa);
    uint32_t i;

    if (rom)
        return *rom;
    for (i = 0; i < cpu->answer_count; i++)
        if (gpa - cpu->answers[i].gpa < cpu->answers[i].size)
            return cpu->answers[i].value >> 8 * (gpa - cpu->answers[i].gpa);
    *missed = 1;
    return 0;
}

/* Whether any byte of the aligned element that `gpa` is in has an answer. */
static int is_answered_in_part(struct soft_cpu *cpu, uint64_t gpa)
{
    uint64_t start = gpa & ~(uint64_t)(cpu->element - 1), i;
    int missed = 0, missing = 0;

    for (i = 0; i < cpu->element; i++, missing += missed, missed = 0)
        answered(cpu, start + i, &missed);
    return missing < (int)cpu->element;
}

/* The engine cuts an unaligned access in two aligned ones, which together read more than the guest does, and those of 8
 * bytes in halves: a read is missed only if no byte of its aligned element was answered. */
static uint64_t on_window_read(void *uc, uint64_t offset, unsigned size, struct soft_cpu *cpu)
{
    uint64_t value = 0, gpa = device_gpa(cpu, offset);
    unsigned i, missed = 0;

    (void)uc;
    for (i = 0; i < size; i++) {
        int byte_missed = 0;
        value |= (uint64_t)answered(cpu, gpa + i, &byte_missed) << 8 * i;
        missed += byte_missed;
    }
    if (missed == size && !cpu->window_missed && !is_answered_in_part(cpu, gpa)) {
        cpu->window_missed = 1;
        note_access(cpu, gpa, size, 0, 0);
    }
    return value;
}

static void on_window_write(void *uc, uint64_t offset, unsigned size, uint64_t value, struct soft_cpu *cpu)
{
    (void)uc;
    note_access(cpu, device_gpa(cpu, offset), size, value, 1);
}
