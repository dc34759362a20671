"""Each hostile or broken answer gets its own verdict, and the other exercises keep their marks."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from toy_lab import RIGHT, answers, by_id

from autograder.model import Report

Graded = Callable[..., Report]

# The answer to `root`, its verdict in check 70.4b, words of the message.
HOSTILE = {
    "loops for ever": ("def root(n):\n    while True: pass", "timeout", "still running after 1 s"),
    "sleeps for ever": ("import time\ndef root(n):\n    time.sleep(1000)", "timeout", "still running"),
    "loops and catches": (
        "def root(n):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass",
        "timeout",
        "still running",
    ),
    "ignores SIGXCPU": (
        "import signal\nsignal_off = signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"
        "def root(n):\n    signal_off\n    while True: pass",
        "timeout",
        "still running",
    ),
    "stops itself": (
        "import os, signal\ndef root(n):\n    os.kill(os.getpid(), signal.SIGSTOP)",
        "timeout",
        "still running",
    ),
    "allocates without end": (
        "def root(n):\n    x = []\n    while True: x.append(bytearray(1 << 20))",
        "memory",
        "128 MiB",
    ),
    "keeps what it allocates": (
        "kept = []\ndef root(n):\n    while True: kept.append(bytearray(1 << 20))",
        "memory",
        "128 MiB",
    ),
    "maps too much": ("import mmap\ndef root(n):\n    return mmap.mmap(-1, 1 << 32)", "memory", "128 MiB"),
    "prints without end": ("def root(n):\n    while True: print('spam' * 100)", "crash", "printed more than 1024 KiB"),
    "prints to standard error": (
        "import sys\ndef root(n):\n    while True: sys.stderr.write('spam' * 100)",
        "crash",
        "printed more",
    ),
    "os._exit": ("import os\ndef root(n):\n    os._exit(3)", "crash", "exit status 3 before answering"),
    "os._exit(0)": ("import os\ndef root(n):\n    os._exit(0)", "crash", "exit status 0 before answering"),
    "sys.exit": ("import sys\ndef root(n):\n    sys.exit('enough')", "crash", "ended the program: SystemExit(enough)"),
    "raises": ("def root(n):\n    n = 1\n    return n / 0", "crash", "line 3 of cell 70.4: ZeroDivisionError"),
    "raises far below": (
        "import json\ndef root(n):\n    return json.loads('{')",
        "crash",
        "line 3 of cell 70.4: JSONDecodeError",
    ),
    "raises what can't be printed": (
        "class Evil(Exception):\n    def __str__(self): raise self\ndef root(n):\n    raise Evil",
        "crash",
        "line 4 of cell 70.4: Evil",
    ),
    "recurses": ("def root(n):\n    return root(n)", "crash", "RecursionError"),
    "kills itself": ("import os\ndef root(n):\n    os.kill(os.getpid(), 9)", "crash", "killed by SIGKILL"),
    "crashes Python": ("import ctypes\ndef root(n):\n    ctypes.string_at(0)", "crash", "SIGSEGV"),
    "closes all descriptors": ("import os\ndef root(n):\n    os.closerange(0, 1024)\n    return 7", "crash", "channel"),
    "writes into every descriptor": (
        "import os\ndef root(n):\n    for fd in range(3, 256):\n        try: os.write(fd, b'\\0\\0\\0\\5hello')\n"
        "        except OSError: pass\n    return 7",
        "crash",
        "channel on which the sandbox answers",
    ),
    "writes noise into every descriptor": (
        "import os\ndef root(n):\n    for fd in range(3, 256):\n        try: os.write(fd, os.urandom(5000))\n"
        "        except OSError: pass\n    os._exit(0)",
        "crash",
        "",
    ),
    "answers deeply nested JSON": (
        "import os\ndef root(n):\n    data = b'[' * 100000\n    os.write(230, len(data).to_bytes(4, 'big') + data)\n"
        "    os._exit(0)",
        "crash",
        "channel on which the sandbox answers",
    ),
    "returns too much": ("def root(n):\n    return 'x' * (3 << 20)", "crash", "more than 1 MiB"),
    "returns a huge number": ("def root(n):\n    return 1 << 1000000", "wrong", "a number of 1000001 bits"),
    "returns a very long list": ("def root(n):\n    return [0] * 1000000", "wrong", "a list"),
    "returns NaN": ("def root(n):\n    return float('nan')", "wrong", "a number with a fraction"),
    "returns itself": ("def root(n):\n    x = []\n    x.append(x)\n    return x", "wrong", "a list where a number"),
    "returns a liar": (
        "class Liar:\n    def __eq__(self, other): return True\n    __hash__ = None\ndef root(n):\n    return Liar()",
        "wrong",
        "gave a Liar where a number is expected",
    ),
    "returns a lying int": (
        "class Liar(int):\n    def __eq__(self, other): return True\n    def __index__(self): return 7\n"
        "    __int__ = __index__\n    __hash__ = None\ndef root(n):\n    return Liar(5)",
        "wrong",
        "5 where 7 is expected",
    ),
    "returns a lying str": (
        "class Liar(str):\n    def __eq__(self, other): return True\n    __hash__ = None\ndef root(n):\n"
        "    return Liar('7')",
        "wrong",
        "a str where a number",
    ),
    "returns a lying dict": (
        "class Liar(dict):\n    def items(self): raise KeyError\n    def __iter__(self): raise KeyError\n"
        "def root(n):\n    return Liar(a=7)",
        "wrong",
        "a dict where a number",
    ),
    "returns a class that lies about its name": (
        "class Meta(type):\n    @property\n    def __name__(cls): raise ValueError\nclass Odd(metaclass=Meta): pass\n"
        "def root(n):\n    return Odd()",
        "wrong",
        "a Odd where a number",
    ),
    "returns nothing": ("def root(n):\n    pass", "wrong", "gave None where a number is expected (did you forget"),
    "returns a generator": ("def root(n):\n    yield 7", "wrong", "a generator where a number"),
    "returns terminal escapes": (
        "def root(n):\n    raise ValueError('\\x1b[2J\\0[red]')",
        "crash",
        "\\x1b[2J\\x00[red]",
    ),
    "returns half a character": ("def root(n):\n    raise ValueError('\\ud800')", "crash", "ValueError"),
    "deletes builtins": ("import builtins\ndef root(n):\n    builtins.__dict__.clear()\n    return 7", "crash", ""),
    "rebinds os._exit": ("import os\ndef root(n):\n    os._exit = print\n    return 8", "wrong", "8 where 7"),
    "never written": ("def root(n):\n    raise NotImplementedError", "missing", "`root` isn't written yet"),
    "calls what is not written": (
        "def helper():\n    raise NotImplementedError('task 70.9')\ndef root(n):\n    return helper()",
        "missing",
        "`helper` isn't written yet",
    ),
    "not there": ("x = 1", "missing", "isn't written yet"),
    "does not parse": ("def root(n):\n    return (7", "crash", "cell 70.4 does not parse: line 2"),
    "does not load": (
        "import nothing_of_that_name\ndef root(n):\n    return nothing_of_that_name",
        "crash",
        "line 1 of",
    ),
    "takes no argument": ("def root():\n    return 7", "crash", "could not use what `root`"),
    "is no function": ("root = 7", "crash", "'int' object is not callable"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answer(name: str, graded: Graded) -> None:
    source, verdict, words = HOSTILE[name]
    results = by_id(graded(*answers(root=source)))
    assert results["70.4b"].verdict == verdict, results["70.4b"]
    assert words in results["70.4b"].message
    assert results["70.4b"].points == 0
    assert {id: results[id].verdict for id in ("70.1", "70.2", "70.3")} == dict.fromkeys(("70.1", "70.2", "70.3"), "ok")
    assert all(c.isprintable() or c == "\n" for c in results["70.4b"].message)


HARMLESS = {
    "replaces sys.stdout": "import sys\ndef root(n):\n    import math\n    sys.stdout = None\n    return math.isqrt(n)",
    "leaves a thread": (
        "import math, threading, time\ndef root(n):\n"
        "    threading.Thread(target=time.sleep, args=(1000,)).start()\n    return math.isqrt(n)"
    ),
    "prints a little": "import math\ndef root(n):\n    print('here', n)\n    return math.isqrt(n)",
    "leaves an atexit handler": (
        "import atexit, math, time\ndef root(n):\n    atexit.register(time.sleep, 1000)\n    return math.isqrt(n)"
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_right_answers_with_bad_manners_count(name: str, graded: Graded) -> None:
    assert graded(*answers(root=HARMLESS[name])).score == 10


@pytest.mark.parametrize(
    "call", ["os.fork()", "subprocess.Popen(['sleep', '1000'])", "os.posix_spawn('/bin/true', ['true'], {})"]
)
def test_no_process_can_be_started(call: str, graded: Graded) -> None:
    results = by_id(graded(*answers(root=f"import os, subprocess\ndef root(n):\n    {call}\n    return 7")))
    assert results["70.4b"].verdict == "crash"
    assert "PermissionError" in results["70.4b"].message


@pytest.mark.parametrize("number", ["SIGKILL", "SIGSTOP"])
def test_the_watching_process_is_out_of_reach(number: str, graded: Graded) -> None:
    """Where the kernel can't forbid the signal, the zygote is replaced and the check is a crash all the same."""
    attack = f"import os, signal\ndef root(n):\n    os.kill(os.getppid(), signal.{number})\n    return 7"
    results = by_id(graded(*answers(add=attack.replace("root(n)", "add(a, b)"))))
    assert results["70.1"].verdict == "crash"
    assert [results[id].verdict for id in ("70.2", "70.4", "70.4b")] == ["ok", "ok", "ok"]


STATE = [
    "import os\nopen('left', 'w').write('x')\ndef root(n):\n    return 7 if not os.path.exists('seen') else 0",
    "import os\ndef root(n):\n    open(os.path.expanduser('~/.left'), 'w').write('x')\n    return 7",
]


@pytest.mark.parametrize("source", STATE)
def test_the_scratch_folder_is_writable(source: str, graded: Graded) -> None:
    assert by_id(graded(*answers(root=source)))["70.4b"].verdict == "ok"


def test_no_file_of_one_check_is_seen_by_the_next(graded: Graded) -> None:
    look = (
        "import os\ndef {}:\n    seen = os.listdir('.') + os.listdir(os.environ['HOME'])\n    open('left', 'w')\n    {}"
    )
    changed = {
        "add": look.format("add(a, b)", "return a + b + len(seen)"),
        "flip": look.format("flip(data)", "return data[::-1] + bytes(len(seen))"),
    }
    results = by_id(graded(*answers(**changed)))
    assert results["70.2"].verdict == "ok"
    # Three cases share one process and its folder: the second of `add` sees what the first left, no more.
    assert results["70.1"].verdict == "wrong"


def test_what_a_check_changes_in_a_module_is_gone_in_the_next(graded: Graded) -> None:
    spoil = "import math\ndef flip(data):\n    math.isqrt = None\n    return data[::-1]"
    assert graded(*answers(flip=spoil)).score == 10


READS = {
    "the stage": "def root(n):\n    import toy_stage\n    return 7",
    "the judge": "def root(n):\n    import autograder.judge\n    return 7",
    "the tests": "import autograder, pathlib\ndef root(n):\n"
    "    root = pathlib.Path(autograder.__file__).parents[1]\n"
    "    (root / 'tests/autograder/conftest.py').read_text()\n    return 7",
    "the watching process": "import os\ndef root(n):\n    open(f'/proc/{os.getppid()}/environ').read()\n    return 7",
}


@pytest.mark.parametrize("name", READS)
def test_answers_can_not_be_read(name: str, graded: Graded, landlock: bool) -> None:
    if not landlock:
        pytest.skip("this kernel has no Landlock")
    result = by_id(graded(*answers(root=READS[name])))["70.4b"]
    assert result.verdict == "crash"
    assert "Error" in result.message


def test_the_network_is_out_of_reach(graded: Graded) -> None:
    reach = "import socket\ndef root(n):\n    socket.create_connection(('127.0.0.1', 1))\n    return 7"
    result = by_id(graded(*answers(root=reach)))["70.4b"]
    assert result.verdict == "crash"
    assert "PermissionError" in result.message


def test_the_supervisor_ran_none_of_it(graded: Graded) -> None:
    mark = "import os\nos.environ['STUDENT_WAS_HERE'] = '1'\n" + RIGHT["root"]
    graded(*answers(root=mark))
    assert "STUDENT_WAS_HERE" not in os.environ
