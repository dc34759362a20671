"""asm16, asm32, asm64, and asm for all three: machine code from the assembly that a test shows.

The bytes come from snippets.json, so no assembler is needed to run the suite. tests/conformance/assemble.py writes that
file: it reads the test files for calls of these functions, which therefore take literal text only, and assembles every
piece. A test does the same and compares (test_snippets.py). A new snippet works at once where GNU as is installed.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rig.layout import CODE, SYMBOLS

HERE = Path(__file__).resolve().parent
SUITE = HERE.parent
FOLDERS = (SUITE, SUITE.parent / "soft")  # whose tests show assembly
COMMITTED = HERE / "snippets.json"
FUNCTIONS = {"asm16": (16,), "asm32": (32,), "asm64": (64,), "asm": (16, 32, 64)}


class AssemblyError(Exception):
    """A snippet that has no bytes: not committed and no assembler, or one that GNU as refuses."""


def asm16(text: str) -> bytes:
    """The machine code of `text`, 16-bit Intel syntax, for address CODE; ";" or a new line ends an instruction."""
    return _bytes(16, text)


def asm32(text: str) -> bytes:
    """As asm16, for 32-bit code."""
    return _bytes(32, text)


def asm64(text: str) -> bytes:
    """As asm16, for 64-bit code."""
    return _bytes(64, text)


def asm(text: str) -> dict[int, bytes]:
    """The same text as 16, 32 and 64-bit code: a guest takes what its mode needs."""
    return {bits: _bytes(bits, text) for bits in (16, 32, 64)}


def normal(text: str) -> str:
    """A snippet on one line, comments and spare space left out: its name in snippets.json."""
    lines = (re.sub(r"\s+", " ", line.split("#")[0]).strip(" ;") for line in re.split("[\n;]", text))
    return "; ".join(line for line in lines if line)


@functools.cache
def _bytes(bits: int, text: str) -> bytes:
    key = f"{bits}: {normal(text)}"
    known = committed().get(key)
    return bytes.fromhex(known) if known is not None else assemble(key)


@functools.cache
def committed() -> dict[str, str]:
    """Every committed snippet: "16: hlt" and its bytes in hex."""
    return json.loads(COMMITTED.read_text()) if COMMITTED.exists() else {}


def assemble(key: str) -> bytes:
    """Assembles one snippet with GNU as and ld. Raises AssemblyError."""
    bits, _, text = key.partition(": ")
    source = f".intel_syntax noprefix\n.code{bits}\n" + text.replace("; ", "\n") + "\n"
    with tempfile.TemporaryDirectory() as scratch:
        made, linked = f"{scratch}/made.o", f"{scratch}/linked"
        symbols = [f"--defsym={name}={value:#x}" for name, value in SYMBOLS.items()]
        _tool(source, "as", "--64", "-mx86-used-note=no", *symbols, "-o", made, "-")
        _tool("", "ld", "-m", "elf_x86_64", f"-Ttext={CODE:#x}", f"-e{CODE:#x}", "--oformat=binary", "-o", linked, made)
        return Path(linked).read_bytes()


def _tool(source: str, *command: str) -> None:
    try:
        done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise AssemblyError(
            "A snippet is not in snippets.json, and GNU as is not here: apt install binutils, run assemble.py."
        ) from None
    if done.returncode:
        raise AssemblyError(f"{done.stderr.strip()}\n{source}")


def in_tests() -> Iterator[str]:
    """The name of every snippet in the tests' files. Raises AssemblyError for one that is not a literal."""
    for file in (file for folder in FOLDERS for file in sorted(folder.glob("*.py"))):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
                text = node.args[0]
                if not isinstance(text, ast.Constant) or not isinstance(text.value, str):
                    raise AssemblyError(f"{file.name}:{node.lineno}: {node.func.id} takes literal text only")
                yield from (f"{bits}: {normal(text.value)}" for bits in FUNCTIONS[node.func.id])


def write() -> list[str]:
    """Writes snippets.json anew; returns what the assembler said of the snippets that it refused."""
    made, refused = {}, []
    for key in sorted(set(in_tests())):
        try:
            made[key] = assemble(key).hex()
        except AssemblyError as error:
            refused.append(str(error))
    COMMITTED.write_text(json.dumps(made, indent=0, ensure_ascii=False) + "\n")
    return refused
