"""Runs the slice of a notebook that a check needs, and reads what went wrong in it. Sandbox side."""

from __future__ import annotations
import __future__

import ast
import errno
import linecache
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

FUTURES = 0
for _name in __future__.all_feature_names:
    FUTURES |= getattr(__future__, _name).compiler_flag

LONGEST_MESSAGE = 1000


def load(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Executes the kept statements of each cell, in order, as `__main__`. Returns the namespace.

    A chunk is {"cell": its label, "source": its text, "keep": which of its top-level statements}. Compiled under its
    label, so that a traceback names the cell and the line as the student sees them.
    """
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module  # dataclasses and typing look their module up
    futures = 0
    for chunk in chunks:
        label, source = chunk["cell"], chunk["source"]
        tree = ast.parse(source, label)
        tree.body = [tree.body[index] for index in chunk["keep"]]
        code = compile(tree, label, "exec", flags=futures, dont_inherit=True)
        # IPython, too, carries `from __future__` on into later cells.
        futures |= code.co_flags & FUTURES
        linecache.cache[label] = (len(source), None, source.splitlines(keepends=True), label)
        exec(code, module.__dict__)
    return module.__dict__


def what_went_wrong(error: BaseException, namespace: dict[str, Any] | None) -> dict[str, Any]:
    """An exception as plain data: type, text, and the student's frames, outermost first. Never raises."""
    kind = _name_of(type(error))
    return {
        "type": kind,
        "message": _text_of(error),
        "frames": _student_frames(error, namespace),
        "memory": isinstance(error, MemoryError) or _is_out_of_memory(error),
        "missing": isinstance(error, NotImplementedError),
        "wants": _safely(lambda: str(error.name)) if kind == "NotWrittenError" else "",  # type: ignore[attr-defined]
        "exit": isinstance(error, (SystemExit, KeyboardInterrupt)),
        "device": kind == "KvmError" and _safely(lambda: str(error.ioctl)).startswith("open("),  # type: ignore[attr-defined]
    }


def _student_frames(error: BaseException, namespace: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Frames whose globals are the student's. The last may lie above frames of the library or the driver."""
    frames = []
    trace, count = error.__traceback__, 0
    while trace is not None and count < 2000:
        code = trace.tb_frame.f_code
        cell = code.co_filename if code.co_filename.startswith("cell ") else ""
        if cell or (namespace is not None and trace.tb_frame.f_globals is namespace):
            frames.append({"cell": cell, "line": trace.tb_lineno, "function": code.co_qualname, "deepest": False})
            frames[-1]["deepest"] = trace.tb_next is None
        trace, count = trace.tb_next, count + 1
    if isinstance(error, SyntaxError) and (error.filename or "").startswith("cell "):
        frames.append({"cell": error.filename, "line": error.lineno, "function": "<module>", "deepest": True})
    return frames[:3] + frames[3:][-3:]


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.ENOMEM


def _name_of(kind: type) -> str:
    # A metaclass could lie about __name__; type's own getter does not ask it.
    return str(type.__dict__["__name__"].__get__(kind))


def _text_of(error: BaseException) -> str:
    return _safely(lambda: str(error))[:LONGEST_MESSAGE]


def _safely(read: Callable[[], str]) -> str:
    """`read()`, or "" where the student's own __str__ raises or answers with something else."""
    try:
        return read()
    except Exception:
        return ""
