# string-io: do REP OUTSB and REP INSB move every byte, and leave CX, SI and DI as they should?
#
# Port 0xEE0 is claimed by nobody, so the four bytes read there are 0xFF; the fifth must stay as it was.
#
# Source: Intel SDM vol. 2, INS, OUTS and REP.

.intel_syntax noprefix
.code16
.include "params.inc"
.include "probe.inc"

.set BUFFER, 0x4000

.globl _start
_start:
    cld
    mov dx, 0xEE0
    mov si, BUFFER
    mov cx, 4
    rep outsb
    cmp si, BUFFER + 4
    jne failed
    mov di, BUFFER
    mov byte ptr [BUFFER + 4], 0x12
    mov cx, 4
    rep insb
    test cx, cx
    jnz failed
    cmp di, BUFFER + 4
    jne failed
    cmp dword ptr [BUFFER], -1
    jne failed
    cmp byte ptr [BUFFER + 4], 0x12
    jne failed
    PASS
failed:
    FAIL

PARAMETERS
