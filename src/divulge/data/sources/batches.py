"""The pickled dictionaries of CIFAR's Python version, read without unpickling.

An unpickler builds what a file tells it to; this reader knows the few instructions that a batch is made of, has no way
to import or call anything, and refuses the rest. Its memory grows with the file, not with what the file claims.
"""

import math
import pickletools
from typing import Any

import numpy as np

from divulge.data.text import inert
from divulge.errors import BadInputError

_RECONSTRUCT, _ARRAY, _KIND, _ENCODE = "_reconstruct", "ndarray", "dtype", "encode"
_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _KIND,
    ("_codecs", "encode"): _ENCODE,
}
_LITERALS = frozenset(
    (
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
    )
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Global:
    """One of the names in `_GLOBALS`, as a mark on the stack."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Bytes:
    """An array of unsigned bytes that is being put together."""

    def __init__(self) -> None:
        self.array = np.empty(0, np.uint8)

    def fill(self, state: Any) -> None:
        _, shape, _, columns_first, content = state
        if not isinstance(content, bytes) or math.prod(shape) != len(content):
            found = f"{len(content):,} bytes" if isinstance(content, bytes) else f"a {type(content).__name__}"
            raise BadInputError(f"expected an array of unsigned bytes, got {found} for its shape.")
        array = np.frombuffer(bytearray(content), np.uint8)
        self.array = np.ascontiguousarray(array.reshape(shape, order="F" if columns_first else "C"))


def read_batch(content: bytes) -> dict[bytes, Any]:
    """The dictionary in a pickled batch: texts as bytes, arrays of unsigned bytes, and lists and numbers as they are.

    Raises:
        BadInputError: a file that is no pickle, or holds anything else.
    """
    try:
        batch = _run(content)
    except BadInputError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise BadInputError(f"expected a batch of CIFAR's Python version, but {inert(error)}.") from None
    if not isinstance(batch, dict):
        raise BadInputError(f"expected a dictionary, got {type(batch).__name__}.")
    return {key: value.array if isinstance(value, _Bytes) else value for key, value in batch.items()}


def _run(content: bytes) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    argument: Any
    for opcode, argument, _ in pickletools.genops(content):
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case name if name in _LITERALS:
                stack.append(argument)
            case name if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case "BINSTRING" | "SHORT_BINSTRING":
                stack.append(argument.encode("latin1"))
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case name if name in _TUPLES:
                start = len(stack) - _TUPLES[name]
                stack[start:] = [tuple(stack[start:])]
            case "APPEND":
                value = stack.pop()
                stack[-1].append(value)
            case "APPENDS":
                items = since_mark()
                stack[-1].extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1][_key(key)] = value
            case "SETITEMS":
                items = since_mark()
                stack[-1].update(zip(map(_key, items[::2]), items[1::2], strict=True))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_global(module, name))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_reduced(function, arguments))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], _Bytes):
                    stack[-1].fill(state)
                elif not _is(stack[-1], _KIND):
                    raise BadInputError(_REFUSAL.format("to change an object"))
            case "STOP":
                return stack.pop()
            case name:
                raise BadInputError(_REFUSAL.format(f"the instruction {name}"))
    raise BadInputError("expected a batch of CIFAR's Python version, but it ends early.")


_REFUSAL = (
    "the file wants {}; a batch holds plain values and arrays of bytes. It is not CIFAR's, or was tampered with: do "
    "not open it with other programs."
)


def _key(key: Any) -> bytes:
    if isinstance(key, str):
        return key.encode()
    if not isinstance(key, bytes):
        raise BadInputError(f"expected keys that are texts, got {type(key).__name__}.")
    return key


def _global(module: Any, name: Any) -> _Global:
    if not isinstance(module, str) or not isinstance(name, str) or (module, name) not in _GLOBALS:
        raise BadInputError(_REFUSAL.format(f"to run {_short(module)}.{_short(name)}"))
    return _Global(_GLOBALS[module, name])


def _short(name: Any) -> str:
    return inert(name[:80]) if isinstance(name, str) else type(name).__name__


def _is(value: Any, name: str) -> bool:
    return isinstance(value, _Global) and value.name == name


def _reduced(function: Any, arguments: Any) -> Any:
    if _is(function, _RECONSTRUCT):
        return _Bytes()
    if _is(function, _KIND):
        if arguments[0] not in (b"u1", "u1"):
            raise BadInputError("expected an array of unsigned bytes, got one of another type.")
        return function
    if _is(function, _ENCODE):  # how Python 3 writes bytes in the older protocols
        return arguments[0].encode("latin1")
    raise BadInputError(_REFUSAL.format("to make an object"))
