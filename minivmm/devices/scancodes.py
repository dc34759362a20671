"""What the keys of a US keyboard send (scan code set 2), and what the keyboard controller makes of it (set 1).

Source: Microsoft Keyboard Scan Code Specification, revision 1.3a; the controller's table, IBM PS/2 Hardware Interface
Technical Reference, "Keyboard and Auxiliary Device Controller".
"""

from __future__ import annotations

RELEASED = 0xF0  # goes before the code of a key that goes up

_CODES = """
    esc:76 f1:05 f2:06 f3:04 f4:0c f5:03 f6:0b f7:83 f8:0a f9:01 f10:09 f11:78 f12:07
    backquote:0e 1:16 2:1e 3:26 4:25 5:2e 6:36 7:3d 8:3e 9:46 0:45 minus:4e equal:55 backspace:66
    tab:0d q:15 w:1d e:24 r:2d t:2c y:35 u:3c i:43 o:44 p:4d bracketleft:54 bracketright:5b backslash:5d
    capslock:58 a:1c s:1b d:23 f:2b g:34 h:33 j:3b k:42 l:4b semicolon:4c apostrophe:52 enter:5a
    shift:12 z:1a x:22 c:21 v:2a b:32 n:31 m:3a comma:41 dot:49 slash:4a rightshift:59
    ctrl:14 meta:e01f alt:11 space:29 rightalt:e011 rightmeta:e027 menu:e02f rightctrl:e014
    insert:e070 home:e06c pageup:e07d delete:e071 end:e069 pagedown:e07a
    up:e075 left:e06b down:e072 right:e074 sysrq:84 scrolllock:7e numlock:77
    kp7:6c kp8:75 kp9:7d kp4:6b kp5:73 kp6:74 kp1:69 kp2:72 kp3:7a kp0:70 kpdot:71
    kpslash:e04a kpstar:7c kpminus:7b kpplus:79 kpenter:e05a
"""
KEYS = {name: bytes.fromhex(code) for name, _, code in (pair.partition(":") for pair in _CODES.split())}

_CHARACTERS = "`-=[]\\;',./ \n\t\b\x1b"
_THEIR_KEYS = """
    backquote minus equal bracketleft bracketright backslash semicolon apostrophe comma dot slash
    space enter tab backspace esc
"""
_KEY_OF = dict(zip(_CHARACTERS, _THEIR_KEYS.split(), strict=True))
_UNSHIFTED = dict(zip('~!@#$%^&*()_+{}|:"<>?', "`1234567890-=[]\\;',./", strict=True))


def keys_of(character: str) -> list[str]:
    """The keys that are held down together to type `character`. Raises ValueError for one that no key types."""
    if character in _UNSHIFTED or (character.isascii() and character.isupper()):
        return ["shift", *keys_of(_UNSHIFTED.get(character, character.lower()))]
    key = _KEY_OF.get(character, character)
    if key not in KEYS:
        raise ValueError(f"A US keyboard has no key for {character!r}.")
    return [key]


def make_code(key: str) -> bytes:
    """What `key` sends as it goes down. Raises ValueError for a name that no key has."""
    if key not in KEYS:
        raise ValueError(f"There is no key {key!r}. A key is named by what it types, or one of: {', '.join(KEYS)}.")
    return KEYS[key]


def break_code(key: str) -> bytes:
    """What `key` sends as it goes up."""
    code = make_code(key)
    return code[:-1] + bytes((RELEASED, code[-1]))


# By set 2 code: what bit 6 of the command byte turns every byte of the keyboard's into. From 0x85 up it stays as it is.
_TRANSLATED = bytes.fromhex("""
    ff 43 41 3f 3d 3b 3c 58 64 44 42 40 3e 0f 29 59  65 38 2a 70 1d 10 02 5a 66 71 2c 1f 1e 11 03 5b
    67 2e 2d 20 12 05 04 5c 68 39 2f 21 14 13 06 5d  69 31 30 23 22 15 07 5e 6a 72 32 24 16 08 09 5f
    6b 33 25 17 18 0b 0a 60 6c 34 35 26 27 19 0c 61  6d 73 28 74 1a 0d 62 6e 3a 36 1c 1b 75 2b 63 76
    55 56 77 78 79 7a 0e 7b 7c 4f 7d 4b 47 7e 7f 6f  52 53 50 4c 4d 48 01 45 57 4e 51 4a 37 49 46 54
    80 81 82 41 54
""")


def translated(code: int) -> int:
    """One byte of set 2 in set 1."""
    return _TRANSLATED[code] if code < len(_TRANSLATED) else code
