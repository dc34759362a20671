# long-hello: the shared hello (include/hello.inc), assembled for 64-bit code: paging on, segment bases ignored.
#
# Source: Intel SDM vol. 3, "Modes of Operation".

.intel_syntax noprefix
.code64
.include "params.inc"
.include "console.inc"
.include "hello.inc"

PARAMETERS
