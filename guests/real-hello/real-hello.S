# real-hello: the shared hello (include/hello.inc), assembled for 16-bit code: where a machine wakes up.
#
# Source: Intel SDM vol. 3, "Modes of Operation".

.intel_syntax noprefix
.code16
.include "params.inc"
.include "console.inc"
.include "hello.inc"

PARAMETERS
