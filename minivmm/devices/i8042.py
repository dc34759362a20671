"""The keyboard controller of a PC: data at port 0x60, status and commands at 0x64; a keyboard, and no mouse.

Every command is done by the time its OUT has ended, so a driver that polls finds what it waits for at once. Where there
is nothing to find, as in the test for a mouse, it is told so and not left to time out.

Source: Intel 8042 as programmed for the IBM PS/2, Hardware Interface Technical Reference, "Keyboard and Auxiliary
Device Controller"; the line to RESET and A20, IBM PC/AT Technical Reference, "Keyboard Controller".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any

from minivmm.devices.keyboard import Keyboard
from minivmm.devices.scancodes import RELEASED, translated
from minivmm.devices.window import Window

STATUS_OBF, STATUS_SYS, STATUS_COMMAND, STATUS_UNLOCKED, STATUS_AUX, STATUS_TIMEOUT = 0x01, 0x04, 0x08, 0x10, 0x20, 0x40
MODE_INTERRUPT, MODE_SYS, MODE_KEYBOARD_OFF, MODE_AUX_OFF, MODE_TRANSLATE = 0x01, 0x04, 0x10, 0x20, 0x40
OUT_NOT_RESET, OUT_A20, OUT_OBF, OUT_IDLE = 0x01, 0x02, 0x10, 0xC0
NO_ANSWER = 0xFE, STATUS_AUX | STATUS_TIMEOUT  # from a device that isn't there
BUFFER = 16


class I8042:
    """`ports` are its two claims. `set_line` is IRQ1; `on_reset` is called, without the lock, when the guest resets.

    It begins as firmware leaves it: self test passed, interrupt on, codes translated to set 1. `a20` is what the guest
    set the A20 gate to. Any thread may type.
    """

    def __init__(self, set_line: Callable[[bool], object], on_reset: Callable[[], object]) -> None:
        self.ports = [
            Window("i8042 data", range(0x60, 0x61), self._read_data, self._write_data, self.save, self.load),
            Window("i8042 command", range(0x64, 0x65), self._read_status, self._write_command),
        ]
        self.keyboard = Keyboard()
        self.a20 = True
        self._set_line = set_line
        self._on_reset = on_reset
        self._lock = Lock()
        self._ram = bytearray(32)
        self._ram[0] = MODE_INTERRUPT | MODE_SYS | MODE_AUX_OFF | MODE_TRANSLATE  # the command byte
        self._answers: deque[tuple[int, int]] = deque(maxlen=BUFFER)  # with the status bits that go with each
        self._data = 0
        self._status = STATUS_UNLOCKED
        self._broken = 0  # 0x80 after RELEASED, which set 1 has as bit 7 of the code
        self._expects = 0  # the command whose parameter is to come to port 0x60, or 0

    def press(self, key: str) -> None:
        """A key goes down and stays there. Raises ValueError for a key that no keyboard has."""
        self._do(self.keyboard.press, key)

    def release(self, key: str) -> None:
        """A key goes up. Raises ValueError for a key that no keyboard has."""
        self._do(self.keyboard.release, key)

    def type(self, text: str) -> None:
        """Types `text` on a US keyboard. Raises ValueError where a character has no key."""
        self._do(self.keyboard.type, text)

    def _do(self, what: Callable[[str], None], argument: str) -> None:
        with self._lock:
            what(argument)
            self._update()

    def _read_data(self, offset: int, size: int) -> int:
        with self._lock:
            data = self._data
            self._status &= ~(STATUS_OBF | STATUS_AUX | STATUS_TIMEOUT)
            self._set_line(False)  # every byte has an edge of its own, also where the next one waits already
            self._update()
            return data

    def _read_status(self, offset: int, size: int) -> int:
        return self._status | (STATUS_SYS if self._ram[0] & MODE_SYS else 0)

    def _write_data(self, offset: int, size: int, value: int) -> None:
        with self._lock:
            self._status &= ~STATUS_COMMAND
            command, self._expects = self._expects, 0
            reset = self._parameter(command, value)
            self._update()
        if reset:
            self._on_reset()

    def _write_command(self, offset: int, size: int, value: int) -> None:
        with self._lock:
            self._status |= STATUS_COMMAND
            self._expects = 0
            reset = self._command(value)
            self._update()
        if reset:
            self._on_reset()

    def _command(self, value: int) -> bool:
        """Does a command. True where it pulls the processor's RESET."""
        match value:
            case _ if 0x20 <= value <= 0x3F:  # read RAM; 0x20 is the command byte
                self._answer(self._ram[value & 0x1F])
            case _ if 0x60 <= value <= 0x7F or value in (0xD1, 0xD2, 0xD3, 0xD4):  # these take a parameter
                self._expects = value
            case 0xA9:  # test the mouse port: its clock is stuck low
                self._answer(0x01)
            case 0xAA:  # self test
                self._ram[0] |= MODE_SYS
                self._answer(0x55)
            case 0xAB:  # test the keyboard port: no error
                self._answer(0x00)
            case 0xAD:
                self._ram[0] |= MODE_KEYBOARD_OFF
            case 0xAE:
                self._ram[0] &= ~MODE_KEYBOARD_OFF
            case 0xC0:  # read input port: the lock is open
                self._answer(0x80)
            case 0xD0:  # read output port
                full = OUT_OBF if self._status & STATUS_OBF else 0
                self._answer(OUT_IDLE | OUT_NOT_RESET | full | (OUT_A20 if self.a20 else 0))
            case 0xE0:  # read test inputs
                self._answer(0x00)
            case _ if value >= 0xF0:  # pulse the output lines whose bits are 0
                return not value & OUT_NOT_RESET
        return False  # 0xA7 and 0xA8 switch the mouse port; it is off for good, and others mean nothing

    def _parameter(self, command: int, value: int) -> bool:
        match command:
            case 0:  # for the keyboard, whose port this switches on
                self._ram[0] &= ~MODE_KEYBOARD_OFF
                self.keyboard.command(value)
            case 0xD1:  # output port
                self.a20 = bool(value & OUT_A20)
                return not value & OUT_NOT_RESET
            case 0xD2 | 0xD3:  # as if it came from the keyboard; or from the mouse, but that would be to pretend one
                self._answer(value)
            case 0xD4:  # to the mouse
                self._answers.append(NO_ANSWER)
            case _:
                self._ram[command & 0x1F] = value
        return False

    def _answer(self, value: int) -> None:
        self._answers.append((value, 0))

    def _update(self) -> None:
        """Fills the output buffer, answers before keys, and sets the line."""
        while not self._status & STATUS_OBF:
            if self._answers:
                self._data, flags = self._answers.popleft()
                self._status |= STATUS_OBF | flags
            elif self._ram[0] & MODE_KEYBOARD_OFF or (code := self.keyboard.next_byte()) is None:
                break
            elif self._ram[0] & MODE_TRANSLATE and code == RELEASED:
                self._broken = 0x80
            else:
                self._data = translated(code) | self._broken if self._ram[0] & MODE_TRANSLATE else code
                self._broken = 0
                self._status |= STATUS_OBF
        full = self._status & (STATUS_OBF | STATUS_AUX) == STATUS_OBF
        self._set_line(full and bool(self._ram[0] & MODE_INTERRUPT))

    def save(self) -> dict[str, Any]:
        with self._lock:
            return {
                "keyboard": self.keyboard.save(),
                "ram": list(self._ram),
                "answers": [list(answer) for answer in self._answers],
                "registers": [self._data, self._status, self._broken, self._expects],
                "a20": self.a20,
            }

    def load(self, state: dict[str, Any]) -> None:
        """Takes on a saved state, and drives the line as it was."""
        with self._lock:
            self.keyboard.load(state["keyboard"])
            self._ram = bytearray(state["ram"])
            self._answers = deque(((value, flags) for value, flags in state["answers"]), maxlen=BUFFER)
            self._data, self._status, self._broken, self._expects = state["registers"]
            self.a20 = state["a20"]
            self._update()
