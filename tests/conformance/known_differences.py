"""Where a platform differs from what the suite asks, by test, with the reason.

Each entry is a strict expected failure on that platform: it is reported if the difference goes away. A name is
`file::test`, or `file::test[parameters]` without the backend, or `*[mode]` for every test of a mode. The tables
are facts about platforms, not excuses: a test asks for what the architecture or the KVM API says.
"""

from __future__ import annotations

import os

from minivmm.kvm import host

# Hosts whose KVM is kvm_pvm: 64-bit ring 3 runs natively on the host's own GDT, everything else is interpreted by KVM's
# x86 emulator, and what that lacks ends in KVM_EXIT_INTERNAL_ERROR.
NO_INT = "INT n and INT3 outside real mode: the emulator has none"
NO_IRET = "IRET in 32-bit mode: the emulator has none"
NO_FPU = "x87, SSE and CMPXCHG16B in ring 0: the emulator has none"
NO_OLD = "an instruction that the emulator doesn't know"
NO_VMCALL = "VMCALL and VMMCALL spin inside KVM_RUN until a signal comes"
NO_SYSCALL = "SYSCALL and SYSRET: only the native part knows them, and only for 64-bit kernels of PVM's own kind"
NO_WATCH = "data watchpoints and 0xCC breakpoints never stop the guest"
NO_VM86 = "virtual-8086 mode: the flag is lost"
NATIVE = "ring 3 runs on the host's GDT and IDT, so the guest's gates and selectors don't count there"
LATE = "KVM's emulator forgets the trap of a single step that made an exit: it comes an instruction late"
ISR = "the local APIC keeps no in-service bit, so nothing waits for EOI"
PVM: dict[str, str] = {
    "*[paging32]": "32-bit paging: SHUTDOWN at the first instruction",
    "*[pae]": "PAE paging: SHUTDOWN at the first instruction",
    "test_paging::test_a_page_of_4_mib": "32-bit paging: SHUTDOWN at the first instruction",
    "test_paging::test_pae_looks_at_its_top_level_when_cr3_is_loaded": "PAE paging: SHUTDOWN at the first instruction",
    "test_paging::test_an_access_that_runs_into_an_absent_page_changes_nothing[long]": "page by page",
    "test_cpuid::test_a_feature_bit_can_be_taken_away": "leaf 1 can't be masked",
    "test_cpuid::test_cpuid_in_ring_3": "CPUID in ring 3 answers with the host's leaves",
    "test_debugging::test_a_watchpoint": NO_WATCH,
    "test_debugging::test_a_watchpoint_on_any_access": NO_WATCH,
    "test_debugging::test_a_breakpoint_in_the_code": NO_WATCH,
    "test_debugging::test_steps_in_ring_3": "no single steps in ring 3",
    "test_exceptions::test_exceptions_of_every_mode[int3-protected]": NO_INT,
    "test_exceptions::test_exceptions_of_every_mode[int3-long]": NO_INT,
    "test_exceptions::test_exceptions_of_every_mode[int-40-protected]": NO_INT,
    "test_exceptions::test_exceptions_of_every_mode[int-40-long]": NO_INT,
    "test_exceptions::test_exceptions_of_every_mode[int-ff-real]": "INT 0xFF in real mode spins inside KVM_RUN",
    "test_exceptions::test_exceptions_of_every_mode[int-ff-protected]": NO_INT,
    "test_exceptions::test_exceptions_of_every_mode[int-ff-long]": NO_INT,
    "test_exceptions::test_into_and_bound": NO_OLD,
    "test_exceptions::test_a_handler_returns_where_it_came_from[protected]": NO_INT,
    "test_exceptions::test_a_handler_returns_where_it_came_from[long]": NO_INT,
    "test_exceptions::test_a_handler_finds_the_flags_on_the_stack_and_gives_them_back[protected]": NO_INT,
    "test_exceptions::test_a_handler_finds_the_flags_on_the_stack_and_gives_them_back[long]": NO_INT,
    "test_exceptions::test_an_absent_gate": NO_INT,
    "test_exceptions::test_a_vector_beyond_the_idt": NO_INT,
    "test_exceptions::test_a_gate_whose_segment_is_no_code": NO_INT,
    "test_exceptions::test_the_icebp_instruction": NO_OLD,
    "test_exceptions::test_the_trap_flag_steps_the_guest_itself[protected]": NO_IRET,
    "test_exceptions::test_a_step_across_a_device[out]": LATE,
    "test_exceptions::test_a_step_across_a_device[outsb]": LATE,
    "test_exceptions::test_a_step_across_a_device[store]": LATE,
    "test_exceptions::test_an_x87_error_is_reported_at_the_next_wait": NO_FPU,
    "test_exceptions::test_an_sse_error_is_reported_at_once": NO_FPU,
    "test_exceptions::test_a_fault_in_a_handler_is_a_fault_of_its_own": NO_INT,
    "test_exceptions::test_a_benign_exception_whose_gate_is_absent": "#DF instead of #NP",
    "test_exceptions::test_a_frame_that_reaches_between_the_halves_of_the_address_space": "SHUTDOWN, no #SS",
    "test_exceptions::test_no_vector_table_in_real_mode_shuts_down": "the limit of the IVT is not looked at",
    "test_exceptions::test_a_guest_moves_its_idt": NO_INT,
    "test_exceptions::test_a_software_interrupt_pushes_no_error_code": NO_INT,
    "test_exceptions::test_the_64_bit_frame_is_aligned": NO_INT,
    "test_instructions::test_of_64_bit_mode[fadd-0]": NO_FPU,
    "test_instructions::test_of_64_bit_mode[fldpi-0]": NO_FPU,
    "test_instructions::test_of_64_bit_mode[fsqrt-0]": NO_FPU,
    "test_instructions::test_of_64_bit_mode[addsd-0]": NO_FPU,
    "test_instructions::test_of_64_bit_mode[paddd-0]": NO_FPU,
    "test_instructions::test_of_64_bit_mode[pshufd-0]": NO_FPU,
    "test_instructions::test_of_64_bit_mode[mmx-0]": NO_FPU,
    "test_instructions::test_of_64_bit_mode[pmovmskb-0]": NO_FPU,
    "test_instructions::test_of_64_bit_mode[cmpxchg16b-0]": NO_FPU,
    "test_instructions::test_of_64_bit_mode[stmxcsr-0]": NO_FPU,
    "test_instructions::test_of_32_bit_mode[x87]": NO_FPU,
    "test_instructions::test_of_real_mode[x87]": NO_FPU,
    "test_instructions::test_of_32_bit_mode[daa]": NO_OLD,
    "test_instructions::test_of_32_bit_mode[aaa]": NO_OLD,
    "test_instructions::test_of_32_bit_mode[arpl]": NO_OLD,
    "test_instructions::test_undefined_in_64_bit_mode[no-opcode]": "no #UD but an internal error",
    "test_instructions::test_undefined_in_64_bit_mode[ud0]": "no #UD but an internal error",
    "test_interrupts::test_a_second_nmi_waits_for_iret": "the interpreted IRET does not let a waiting NMI in",
    "test_irqchip::test_a_level_pin_comes_again_after_eoi_until_it_falls": ISR,
    "test_lapic::test_an_interrupt_in_service_blocks_its_class_until_eoi": ISR,
    "test_modes::test_virtual_8086_mode_decodes_16_bits_and_traps_hlt": NO_VM86,
    "test_modes::test_virtual_8086_mode_entered_by_iret": NO_VM86,
    "test_msrs::test_a_value_that_is_not_allowed_faults[IA32_PAT-144680345676153346]": "IA32_PAT takes any value",
    "test_msrs::test_a_refused_value_can_exit": "IA32_PAT takes any value",
    "test_msrs::test_the_time_stamp_counter_can_be_set": "the guest always reads the host's TSC",
    "test_paravirt::test_an_unknown_hypercall": NO_VMCALL,
    "test_paravirt::test_the_hypercall_that_does_nothing": NO_VMCALL,
    "test_paravirt::test_a_hypercall_from_32_bit_code_returns_32_bits": NO_VMCALL,
    "test_rings::test_int_n_from_ring_3_through_a_gate_of_ring_3": NO_INT,
    "test_rings::test_int_n_from_ring_3_through_a_gate_of_ring_0": NO_INT,
    "test_rings::test_int3_from_ring_3": NATIVE,
    "test_rings::test_down_to_ring_3_and_up_again[protected]": NO_IRET,
    "test_rings::test_iretd_to_the_same_ring": NO_IRET,
    "test_rings::test_iret_with_16_bit_operands_in_protected_mode": NO_IRET,
    "test_rings::test_iret_to_a_null_selector[protected]": NO_IRET,
    "test_rings::test_iret_to_a_data_segment": "IRETQ does not look at the type of the code segment",
    "test_rings::test_iopl_3_lets_ring_3_use_ports_and_the_interrupt_flag": NATIVE,
    "test_rings::test_far_return_to_ring_3": "the emulator has no far return to another ring",
    "test_rings::test_a_call_gate_leads_from_ring_3_to_ring_0": NATIVE,
    "test_rings::test_a_call_gate_of_ring_0_refuses_ring_3": NATIVE,
    "test_rings::test_selector_questions": NO_OLD,
    "test_state::test_the_guest_sees_the_vector_registers_that_were_set": NO_FPU,
    "test_state::test_xsave_holds_the_same_as_the_fpu": "KVM_GET_XSAVE shows nothing of KVM_SET_FPU",
    "test_system_calls::test_syscall_from_ring_3": NO_SYSCALL,
    "test_system_calls::test_syscall_keeps_the_flags_that_are_not_masked": NO_SYSCALL,
    "test_system_calls::test_sysret_to_32_bit_code": NO_SYSCALL,
    "test_system_calls::test_there_and_back_again": NO_SYSCALL,
    "test_system_calls::test_syscall_that_is_not_switched_on": NO_SYSCALL,
}

# Upstream kvm-amd inside QEMU's TCG (tools/box.py). All but LATE is of the processor that QEMU emulates.
GATE_BYTES = "QEMU counts the error code's index in bytes of a gate: 16 times the vector in long mode, not 8"
NO_EXT = "QEMU doesn't set the EXT bit of the error code"
NO_DF = "QEMU makes no double fault of two contributory faults in a nested guest"
NO_SS = "QEMU raises #GP(0), not #SS(0), for a stack address that is not canonical"
NO_LIMITS = "QEMU checks neither limits nor rights nor null selectors of data segments"
NO_BREAKPOINTS = "QEMU arms no debug registers at VMRUN"
NO_INT3 = "QEMU's INT3 is no interceptable exception"
SET_FPU = "KVM_SET_FPU is lost while the XSAVE header says that x87 and SSE are in their initial state (Linux 6.1)"
ANY_ADDRESS = "QEMU takes any address for an MSR that KVM doesn't intercept"
RESERVED = "QEMU leaves the P bit out of the error code for a reserved bit"
BOX: dict[str, str] = {
    "test_code_changes::test_code_that_changes_its_own_block_without_a_jump[long]": "QEMU runs the old instruction",
    "test_debugging::test_a_breakpoint_in_a_register": NO_BREAKPOINTS,
    "test_debugging::test_four_breakpoints": NO_BREAKPOINTS,
    "test_debugging::test_a_breakpoint_is_passed_by_a_step": NO_BREAKPOINTS,
    "test_debugging::test_a_watchpoint": NO_BREAKPOINTS,
    "test_debugging::test_a_watchpoint_on_any_access": NO_BREAKPOINTS,
    "test_debugging::test_a_breakpoint_in_the_code": NO_INT3,
    "test_exceptions::test_an_absent_gate[long]": GATE_BYTES,
    "test_exceptions::test_a_vector_beyond_the_idt[long]": GATE_BYTES,
    "test_exceptions::test_general_protection_in_long_mode[push]": NO_SS,
    "test_exceptions::test_general_protection_in_long_mode[rbp]": NO_SS,
    "test_exceptions::test_general_protection_in_long_mode[wrmsr]": ANY_ADDRESS,
    "test_exceptions::test_the_icebp_instruction": "QEMU raises #UD for INT1 in a nested guest",
    "test_exceptions::test_a_step_across_a_device[outsb]": LATE,
    "test_exceptions::test_a_step_across_a_device[store]": LATE,
    "test_exceptions::test_an_sse_error_is_reported_at_once": "QEMU raises no SIMD floating-point exceptions",
    "test_exceptions::test_alignment_is_checked_in_ring_3_on_demand": "QEMU checks no alignment",
    "test_exceptions::test_a_frame_that_reaches_between_the_halves_of_the_address_space": NO_SS,
    "test_exceptions::test_a_benign_exception_whose_gate_is_absent": NO_EXT,
    "test_exceptions::test_two_contributory_faults_are_a_double_fault": NO_DF,
    "test_exceptions::test_a_divide_error_that_can_not_be_delivered_is_a_double_fault": NO_DF,
    "test_exceptions::test_a_triple_fault_shuts_down": NO_DF,
    "test_irqchip::test_a_pit_needs_an_irqchip": "Linux 6.1 makes one, later kernels refuse",
    "test_lapic::test_an_illegal_priority": "QEMU delivers this #GP with an error code of 0xD0",
    "test_modes::test_an_access_beyond_a_segments_limit": NO_LIMITS,
    "test_modes::test_a_write_to_a_read_only_segment": NO_LIMITS,
    "test_modes::test_a_null_selector_may_be_loaded_but_not_used": NO_LIMITS,
    "test_msrs::test_a_value_that_is_not_allowed_faults[LSTAR-140737488355328]": ANY_ADDRESS,
    "test_msrs::test_a_value_that_is_not_allowed_faults[FS_BASE-140737488355328]": ANY_ADDRESS,
    "test_paging::test_the_nx_bit_is_reserved_until_it_is_switched_on": RESERVED,
    "test_paging::test_a_reserved_bit_of_a_large_page": RESERVED,
    "test_paging::test_switching_paging_off_and_on[pae]": "QEMU marks top-level PAE entries accessed, a reserved bit",
    "test_rings::test_int_n_from_ring_3_through_a_gate_of_ring_0[long]": GATE_BYTES,
    "test_rings::test_int3_from_ring_3[long]": GATE_BYTES,
    "test_state::test_the_guest_sees_the_vector_registers_that_were_set": SET_FPU,
    "test_state::test_xsave_holds_the_same_as_the_fpu": SET_FPU,
    "test_state::test_the_shadow_of_sti_can_be_set": "QEMU's VMRUN opens the window at once",
    "test_system_calls::test_syscall_keeps_the_flags_that_are_not_masked": "QEMU's SYSCALL loses the arithmetic flags",
}

# QEMU 7.2 never forgets a breakpoint that a nested guest armed itself: it would hit in the guests of all later tests.
LAST_IN_THE_BOX = (
    "test_debugging::test_guest_breakpoints_are_hidden_while_the_debugger_uses_the_registers",
    "test_exceptions::test_the_guests_own_breakpoint",
)

NO_CR8 = "MOV CR8 with a virtual interrupt waiting ends QEMU 7.2"
# What takes the box down, so that it can't even fail there.
BREAKS_THE_BOX: dict[str, str] = {
    "test_cpuid::test_long_mode_needs_its_bit": "QEMU hangs",
    "test_lapic::test_priorities": NO_CR8,
    "test_lapic::test_a_higher_class_passes_the_task_priority": NO_CR8,
}

# The backend without hardware.
SOFT: dict[str, str] = {
    "test_exceptions::test_an_sse_error_is_reported_at_once": "Unicorn raises no SSE exceptions",
    "test_exceptions::test_alignment_is_checked_in_ring_3_on_demand": "Unicorn knows no #AC",
}


def for_platform(backend: str) -> list[dict[str, str]]:
    """The tables that hold for a backend on this host."""
    if backend == "soft":
        return [SOFT]
    if backend != "kvm":
        return []
    return [BOX] * ("MINIVMM_BOX" in os.environ) + [PVM] * host.look().is_pvm


def all_names() -> set[str]:
    return PVM.keys() | BOX.keys() | SOFT.keys() | BREAKS_THE_BOX.keys() | set(LAST_IN_THE_BOX)
