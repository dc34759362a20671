"""Compiles the hooks of the soft backend (cffi, API mode) when the package is installed.

Without a C compiler, installation goes on without them and plain.py does the same in Python, slower.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

FOLDER = Path(__file__).parent / "native"
STRUCTS = (FOLDER / "cpu.h").read_text(encoding="utf-8")
# One translation unit, read from top to bottom.
PARTS = ("engine.h", "memory.c", "paging.c", "code_pages.c", "instructions.c", "device_window.c", "system_access.c",
         "hooks.c", "run.c")  # fmt: skip

FUNCTIONS = """
int soft_add_hooks(struct soft_cpu *cpu);
void soft_free(struct soft_cpu *cpu);
int soft_enter(struct soft_cpu *cpu, int64_t budget);
int soft_step(struct soft_cpu *cpu);
int soft_translate(struct soft_cpu *cpu, uint64_t va, int access, int user, uint64_t *gpa);
void soft_flush_tlb(struct soft_cpu *cpu);
int soft_peek(struct soft_cpu *cpu);
int soft_retire(struct soft_cpu *cpu, int length);
void soft_add_site(struct soft_cpu *cpu, uint64_t pc);
void soft_written(struct soft_cpu *cpu, uint64_t gpa, uint64_t size);
void soft_get_regs(struct soft_cpu *cpu, uint64_t *regs);
void soft_set_regs(struct soft_cpu *cpu, const uint64_t *regs);
uint64_t soft_get(struct soft_cpu *cpu, int which);
void soft_set(struct soft_cpu *cpu, int which, uint64_t value);
void soft_look(struct soft_cpu *cpu);
void soft_put(struct soft_cpu *cpu);
int soft_begin(struct soft_cpu *cpu);
void soft_memory_changed(struct soft_cpu *cpu);
void soft_forget_code(struct soft_cpu *cpu, uint64_t gpa, uint64_t size);
"""

ffibuilder = FFI()
ffibuilder.cdef(STRUCTS + FUNCTIONS)
ffibuilder.set_source(
    "minivmm.soft._native",
    "\n".join(
        [
            "#include <stdint.h>\n#include <stdlib.h>\n#include <string.h>\n#include <time.h>",
            "#ifndef _WIN32\n#include <sys/mman.h>\n#endif",
            STRUCTS,
            *((FOLDER / part).read_text(encoding="utf-8") for part in PARTS),
        ]
    ),
    extra_compile_args=["-O3"],  # which unrolls the digest of a page, called at each KVM_RUN
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
