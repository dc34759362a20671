/* Guest-physical memory: the slots, and which of their pages were written. */

static struct soft_slot *slot_at(struct soft_cpu *cpu, uint64_t gpa)
{
    uint32_t i;

    if (cpu->last_slot < cpu->slot_count && gpa - cpu->slots[cpu->last_slot].gpa < cpu->slots[cpu->last_slot].size)
        return &cpu->slots[cpu->last_slot];
    for (i = 0; i < cpu->slot_count; i++)
        if (gpa - cpu->slots[i].gpa < cpu->slots[i].size) {
            cpu->last_slot = i;
            return &cpu->slots[i];
        }
    return 0;
}

static uint8_t *host_at(struct soft_cpu *cpu, uint64_t gpa)
{
    struct soft_slot *slot = slot_at(cpu, gpa);
    return slot ? slot->host + (gpa - slot->gpa) : 0;
}

static void mark_dirty(struct soft_slot *slot, uint64_t gpa)
{
    uint64_t page = (gpa - slot->gpa) / PAGE;
    if (slot->dirty)
        slot->dirty[page / 8] |= 1 << page % 8;
}

static int is_dirty(struct soft_slot *slot, uint64_t gpa)
{
    uint64_t page = (gpa - slot->gpa) / PAGE;
    return !slot->dirty || slot->dirty[page / 8] >> page % 8 & 1;
}
