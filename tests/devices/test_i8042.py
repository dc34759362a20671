"""The keyboard controller and its keyboard, as drivers use them: commands, probing, typing, reset."""

from __future__ import annotations

import pytest

from minivmm.devices.i8042 import I8042
from minivmm.devices.scancodes import KEYS, break_code, keys_of, make_code, translated

OBF, SYS, COMMAND, UNLOCKED, AUX = 0x01, 0x04, 0x08, 0x10, 0x20


class Host:
    """A driver that never waits: what it asks for must be there by its next look."""

    def __init__(self) -> None:
        self.line: list[bool] = []
        self.resets = 0
        self.i8042 = I8042(self._set_line, self._reset)
        self._data, self._control = self.i8042.ports

    def _set_line(self, level: bool) -> None:
        if level is not (self.line[-1] if self.line else False):
            self.line.append(level)

    def _reset(self) -> None:
        self.resets += 1

    @property
    def status(self) -> int:
        return self._control.read(0, 1)

    def command(self, value: int, *parameters: int) -> None:
        self._control.write(0, 1, value)
        for parameter in parameters:
            self._data.write(0, 1, parameter)

    def keyboard(self, *values: int) -> list[int]:
        """What the keyboard answers to some bytes."""
        for value in values:
            self._data.write(0, 1, value)
        return self.all()

    def read(self) -> int:
        assert self.status & OBF, "nothing to read"
        return self._data.read(0, 1)

    def all(self) -> list[int]:
        received = []
        while self.status & OBF:
            received.append(self._data.read(0, 1))
            assert len(received) < 1000
        return received


@pytest.fixture
def host() -> Host:
    return Host()


# ---- the controller ----


def test_two_ports_and_nothing_between(host: Host) -> None:
    assert [port.claim for port in host.i8042.ports] == [range(0x60, 0x61), range(0x64, 0x65)]


def test_it_begins_as_firmware_leaves_it(host: Host) -> None:
    assert host.status == UNLOCKED | SYS
    host.command(0x20)
    assert host.read() == 0x65  # interrupt, system flag, mouse off, translation
    assert host.line == [True, False]


@pytest.mark.parametrize(("command", "answer"), [(0xAA, 0x55), (0xAB, 0x00), (0xC0, 0x80), (0xE0, 0x00), (0xD0, 0xC3)])
def test_commands_are_answered_at_once(host: Host, command: int, answer: int) -> None:
    host.command(command)
    assert host.status & (OBF | COMMAND) == OBF | COMMAND
    assert host.read() == answer
    assert not host.status & OBF


def test_the_command_byte_and_the_rest_of_the_ram(host: Host) -> None:
    host.command(0x60, 0x30)
    host.command(0x7F, 0xA5)
    host.command(0x20)
    host.command(0x3F)
    assert host.all() == [0x30, 0xA5]
    assert not host.status & SYS  # the status shows the command byte's system flag
    host.command(0xAA)
    assert (host.read(), host.status & SYS) == (0x55, SYS)


def test_the_interrupt_follows_the_output_buffer_if_it_is_on(host: Host) -> None:
    host.i8042.type("a")
    assert host.line == [True]
    host.read()
    assert host.line == [True, False, True]  # an edge for each byte
    host.read()
    assert host.line == [True, False, True, False]
    host.command(0x60, 0x44)
    host.i8042.type("a")
    assert (host.line[4:], len(host.all())) == ([], 2)


@pytest.mark.parametrize("how", [(0xFE,), (0xFC,), (0xD1, 0x02)])
def test_three_ways_to_reset(host: Host, how: tuple[int, ...]) -> None:
    host.command(*how)
    assert host.resets == 1


@pytest.mark.parametrize("how", [(0xFF,), (0xFD,), (0xD1, 0x03), (0xA8,)])
def test_what_is_no_reset(host: Host, how: tuple[int, ...]) -> None:
    host.command(*how)
    assert host.resets == 0


def test_the_a20_gate_is_remembered(host: Host) -> None:
    assert host.i8042.a20
    host.command(0xD1, 0xDD)
    assert not host.i8042.a20
    host.command(0xD0)
    assert host.read() == 0xC1
    host.command(0xD1, 0xDF)
    assert host.i8042.a20


def test_a_reset_may_load_the_controller_itself() -> None:
    def reset() -> None:
        i8042.load(fresh)

    i8042 = I8042(lambda level: None, reset)
    fresh = i8042.save()
    i8042.ports[0].write(0, 1, 0xED)
    i8042.ports[1].write(0, 1, 0xFE)
    assert i8042.save() == fresh


def test_answers_nobody_reads_do_not_pile_up(host: Host) -> None:
    for _ in range(1000):
        host.command(0xAA)
        host.command(0xD2, 1)
    assert len(host.all()) == 17  # a byte in the buffer, 16 behind it


def test_nor_do_those_of_the_keyboard(host: Host) -> None:
    host.command(0xAA)
    for _ in range(1000):
        host.i8042.ports[0].write(0, 1, 0xEE)
    assert host.all() == [0x55] + [0xEE] * 16


# ---- what Linux looks for (drivers/input/serio/i8042.c) ----


def test_linux_finds_a_keyboard_port_without_waiting(host: Host) -> None:
    host.i8042.type("typed while it booted")
    assert len(host.all()) > 16  # i8042_flush
    host.command(0x20)
    mode = host.read()
    assert host.status & UNLOCKED  # else "Keylock active"
    assert mode & 0x40  # else it takes the keyboard for untranslated
    mode = (mode | 0x10) & ~0x01
    host.command(0x60, mode)
    host.command(0x20)
    assert host.read() == mode
    host.command(0xAB)
    assert host.read() == 0
    host.command(0x60, (mode | 0x01) & ~0x10)
    assert host.keyboard(0xF2) == [0xFA, 0xAB, 0x41]  # 0x83, translated, like all that a keyboard sends
    for command in ((0xED, 0), (0xF3, 0), (0xF4,)):
        assert host.keyboard(*command) == [0xFA] * len(command)


def test_linux_is_told_at_once_that_there_is_no_mouse(host: Host) -> None:
    host.command(0xD3, 0x5A)  # the loop test: an answer, but not from a mouse
    assert host.status & (OBF | AUX) == OBF
    assert host.read() == 0x5A
    host.command(0xA9)
    assert host.read() not in (0x00, 0xFA, 0xFF)  # those would pass
    host.command(0xA8)
    host.command(0x20)
    assert host.read() & 0x20  # still off: there is no second port
    host.command(0xD4, 0xFF)
    assert host.status & (OBF | AUX) == OBF | AUX
    assert host.read() == 0xFE
    assert True not in host.line[-1:]


# ---- the keyboard ----


def test_reset_and_identify(host: Host) -> None:
    assert host.keyboard(0xFF) == [0xFA, 0xAA]
    host.command(0x60, 0x05)
    assert host.keyboard(0xF2) == [0xFA, 0xAB, 0x83]


def test_commands_with_a_parameter(host: Host) -> None:
    assert host.keyboard(0xED) == [0xFA]
    assert host.keyboard(0x05) == [0xFA]
    assert host.i8042.keyboard.leds == 5
    assert host.keyboard(0xF3, 0x20) == [0xFA, 0xFA]
    assert host.keyboard(0xED, 0xF4) == [0xFA, 0xFA]  # a command instead is a command
    assert host.keyboard(0x01) == [0xFE]  # and the parameter is not waited for any more
    assert host.i8042.keyboard.leds == 5
    assert host.keyboard(0xF6) == [0xFA]
    assert host.i8042.keyboard.leds == 0


def test_it_has_scan_code_set_2_only(host: Host) -> None:
    host.command(0x60, 0x05)
    assert host.keyboard(0xF0, 0x00) == [0xFA, 0xFA, 0x02]
    assert host.keyboard(0xF0, 0x02) == [0xFA, 0xFA]
    assert host.keyboard(0xF0, 0x01) == [0xFA, 0xFE]


def test_echo_resend_and_the_unknown(host: Host) -> None:
    assert host.keyboard(0xEE) == [0xEE]
    assert host.keyboard(0xFE) == [0xEE]
    assert host.keyboard(0x01) == [0xFE]


def test_nothing_is_lost_while_scanning_is_off(host: Host) -> None:
    assert host.keyboard(0xF5) == [0xFA]
    host.i8042.type("x")
    assert host.all() == []
    assert host.keyboard(0xF4) == [0xFA, 0x2D, 0xAD]


def test_nothing_comes_while_the_port_is_off(host: Host) -> None:
    host.command(0xAD)
    host.i8042.type("x")
    assert host.all() == []
    host.command(0xAE)
    assert host.all() == [0x2D, 0xAD]
    host.command(0xAD)
    assert host.keyboard(0xEE) == [0xEE]  # a byte to the keyboard switches the port on
    host.command(0x20)
    assert not host.read() & 0x10


def test_an_answer_does_not_split_a_key(host: Host) -> None:
    host.i8042.press("up")
    host.i8042.press("a")
    assert host.read() == 0xE0
    assert host.keyboard(0xEE) == [0x48, 0xEE, 0x1E]


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("a", [0x1E, 0x9E]),
        ("A", [0x2A, 0x1E, 0x9E, 0xAA]),
        ("!", [0x2A, 0x02, 0x82, 0xAA]),
        ("\n", [0x1C, 0x9C]),
        ("\\", [0x2B, 0xAB]),
    ],
)
def test_typed_text_in_set_1(host: Host, text: str, codes: list[int]) -> None:
    host.i8042.type(text)
    assert host.all() == codes


def test_typed_text_in_set_2(host: Host) -> None:
    host.command(0x60, 0x05)
    host.i8042.type("a")
    assert host.all() == [0x1C, 0xF0, 0x1C]


@pytest.mark.parametrize(
    ("key", "down", "up"),
    [
        ("esc", [0x01], [0x81]),
        ("f7", [0x41], [0xC1]),
        ("f11", [0x57], [0xD7]),
        ("delete", [0xE0, 0x53], [0xE0, 0xD3]),
        ("rightctrl", [0xE0, 0x1D], [0xE0, 0x9D]),
        ("kpenter", [0xE0, 0x1C], [0xE0, 0x9C]),
    ],
)
def test_keys_by_name(host: Host, key: str, down: list[int], up: list[int]) -> None:
    host.i8042.press(key)
    assert host.all() == down
    host.i8042.release(key)
    assert host.all() == up


def test_every_printable_character_can_be_typed_and_told_apart(host: Host) -> None:
    seen = set()
    for code in range(0x20, 0x7F):
        host.i8042.type(chr(code))
        seen.add(tuple(host.all()))
    assert len(seen) == 95


def test_a_key_or_character_that_is_not_there(host: Host) -> None:
    with pytest.raises(ValueError, match="A US keyboard has no key for 'ß'"):
        host.i8042.type("aß")
    with pytest.raises(ValueError, match="There is no key 'any'"):
        host.i8042.press("any")
    host.i8042.type("b")
    assert host.all() == [0x30, 0xB0]  # and nothing of what was refused


def test_translation_keeps_keys_apart_and_answers_whole() -> None:
    assert len({translated(code) for code in range(0x80)}) == 0x80
    assert [translated(code) for code in (0xFA, 0xAA, 0xFE, 0xEE, 0xE0)] == [0xFA, 0xAA, 0xFE, 0xEE, 0xE0]
    assert len({make_code(key) for key in KEYS}) == len(KEYS)
    assert break_code("up") == b"\xe0\xf0\x75"
    assert keys_of("?") == ["shift", "slash"]


def test_state_moves_to_another_controller(host: Host) -> None:
    host.command(0xD1, 0x01)
    host.i8042.type("ab")
    host.command(0xD0)
    host.read()
    host.command(0x61)
    other = Host()
    other.i8042.load(host.i8042.save())
    assert other.i8042.save() == host.i8042.save()
    assert (other.line, other.i8042.a20) == ([True], False)
    assert other.all() == host.all() != []
