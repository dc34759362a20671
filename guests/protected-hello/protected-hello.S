# protected-hello: the shared hello (include/hello.inc), assembled for 32-bit code: flat segments, no paging.
#
# Source: Intel SDM vol. 3, "Modes of Operation".

.intel_syntax noprefix
.code32
.include "params.inc"
.include "console.inc"
.include "hello.inc"

PARAMETERS
