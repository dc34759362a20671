"""The given half of lab 08: a PC's devices as registers, and the board on which the student's functions bring them to
life.

    board = Board({"line_status": line_status}, "lsr-waiter", nonce=7, count=12)
    board.go()                                  # runs the guest until it ends
    board.screen, board.console                 # what it sent by its UART, and what it printed past it
    board.type("time\\r")                        # what somebody types at the other end of the line

`chips` has the registers, `parts` the behaviour of all that the student has not written yet, which it has from the
library's devices (`loan`), `wiring` the ports, `processor` the vCPU with its 8259, `outside` who types and the test
bench, `board` the machine, and `talk` a prompt.
"""

from minivmm.lab_console.board import START, Board
from minivmm.lab_console.chips import EPOCH, Clock, Controller, Pc, Serial
from minivmm.lab_console.parts import Parts
from minivmm.lab_console.processor import EndlessError
from minivmm.lab_console.talk import interact, right_now
from minivmm.lab_console.wiring import OddError

__all__ = [
    "EPOCH", "START", "Board", "Clock", "Controller", "EndlessError", "OddError", "Parts", "Pc", "Serial", "interact",
    "right_now",
]  # fmt: skip
