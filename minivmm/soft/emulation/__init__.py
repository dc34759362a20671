"""The instructions that the engine stops before, carried out: I/O, HLT, MSRs, CPUID, control registers, and so on."""
