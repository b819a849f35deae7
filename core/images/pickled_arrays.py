"""The pickles in which CIFAR comes (``data_batch_1`` ... ``test_batch``; ``train`` and ``test`` of CIFAR-100) and
others like them: read without running them.

A pickle is a program. Here its operations are followed on plain values only; what it would call is written down and not
called, and of that only what NumPy needs to describe an array is allowed. Facts: CPython's ``pickletools``; the CIFAR
page (https://www.cs.toronto.edu/~kriz/cifar.html): a dict whose ``data`` is [N, 3072] of uint8, channel by channel.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from core.images.archive import refuse, shown
from core.images.stored_array import BYTES, ArrayMembers, StoredArray, choose_array

_LONGEST = 512 * 2**20
"""Bytes; CIFAR-100's training file has 155 million."""
_MOST_STEPS = 5_000_000
_RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_FROM_BUFFER = ("numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer")
_ENCODE = "_codecs encode"
_DTYPE = "numpy dtype"
_ALLOWED = frozenset(
    {
        *_RECONSTRUCT,
        *_FROM_BUFFER,
        *("numpy.core.multiarray scalar", "numpy._core.multiarray scalar"),
        *(_ENCODE, _DTYPE, "numpy ndarray", "collections OrderedDict"),
    }
)
_BYTE_TYPES = ("u1", "B", "uint8", "|u1")
_PUSHED = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES "
    "SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_FAULTS = (ValueError, IndexError, KeyError, TypeError, struct.error, EOFError, OverflowError, StopIteration)
_CONVERSION = (
    "Convert it where you trust it: python -c \"import numpy, pickle; x = pickle.load(open('FILE', 'rb'), "
    "encoding='latin1'); numpy.save('images.npy', x['data'].reshape(-1, 3, 32, 32))\""
)


@dataclass(frozen=True)
class _Name:
    """Something the pickle names, as "module name"."""

    name: str


@dataclass
class _Call:
    """A call that was not made, and the state that its result was to be given."""

    name: str
    arguments: Any
    state: Any = None


class _Mark:
    """Where a group of values begins on the stack."""


def is_pickle(start: bytes) -> bool:
    """Whether a file begins as a pickle of protocol 2 to 5 does, or as one of CIFAR's kind of protocol 0 or 1."""
    if start[:1] == b"\x80":
        return start[1:2] in (b"\2", b"\3", b"\4", b"\5") and start[2:3] in (b"}", b"]", b"(", b"c", b"\x95")
    return start[:3] in (b"(dp", b"}q\0", b"}q\1")


def open_pickle(file: BinaryIO) -> ArrayMembers:
    """The images in a pickle of one array of bytes, alone or in a dict.

    Raises:
        UnsupportedInput: ``unsafe_archive`` where it would call anything but NumPy's array, ``truncated_archive``, or
            ``no_image_data`` or ``ambiguous_image_data`` where not exactly one array can be images.
    """
    data = _whole(file)
    try:
        value = _followed(data)
        arrays = [found for found in _arrays(value) if found is not None]
    except _FAULTS as failure:
        _damaged(str(failure))
    if not arrays:
        action = "Give the files that hold the images; floats and others can be saved as an npy file with numpy.save."
        refuse("no_image_data", "a pickle without an array of bytes", "a dict with the images' bytes", action)
    array = choose_array([each for each, _ in arrays], "a pickle")
    stream = next(values for each, values in arrays if each is array)
    if len(stream) != array.nbytes:
        _damaged(f"the array {array} with {len(stream)} bytes")
    return ArrayMembers(array, io.BytesIO(stream))


def _whole(file: BinaryIO) -> bytes:
    file.seek(0)
    data = file.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        refuse("no_image_data", f"a pickle of more than {_LONGEST} bytes", "a smaller one", _CONVERSION)
    return data


def _followed(data: bytes) -> Any:
    """The value that the pickle describes, with calls written down in it."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for step, (operation, argument, _) in enumerate(pickletools.genops(data)):
        name = operation.name
        if step > _MOST_STEPS:
            refuse("no_image_data", f"a pickle of more than {_MOST_STEPS} steps", "arrays", _CONVERSION)
        if name == "STOP":
            return stack.pop()
        if name in ("PROTO", "FRAME"):
            continue
        if name in _PUSHED:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument)])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(_named(argument if name == "GLOBAL" else f"{stack.pop(-2)} {stack.pop()}"))
        else:
            _build(name, stack)
    raise EOFError("no end")


def _build(name: str, stack: list[Any]) -> None:
    """The operations that make a value of those on the stack."""
    if name == "MARK":
        stack.append(_Mark())
    elif name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE"):
        stack.append({"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}[name]())
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(name[-1])
        stack[-count:] = [tuple(stack[-count:])]
    elif name in ("TUPLE", "LIST", "DICT"):
        group = _group(stack)
        stack.append(tuple(group) if name == "TUPLE" else group if name == "LIST" else dict(_pairs(group)))
    elif name in ("APPEND", "APPENDS"):
        group = [stack.pop()] if name == "APPEND" else _group(stack)
        _of_kind(stack[-1], list).extend(group)
    elif name in ("SETITEM", "SETITEMS"):
        group = [stack.pop(-2), stack.pop()] if name == "SETITEM" else _group(stack)
        if not isinstance(stack[-1], _Call):  # an OrderedDict
            _of_kind(stack[-1], dict).update(_pairs(group))
        else:
            stack[-1].state = {**(stack[-1].state or {}), **dict(_pairs(group))}
    elif name == "REDUCE":
        arguments, called = stack.pop(), _of_kind(stack.pop(), _Name).name
        if called == _ENCODE:  # how Python 3 writes bytes for Python 2: text, in Latin-1
            stack.append(str(_of_kind(arguments, tuple)[0]).encode("latin-1"))
        else:
            stack.append(_Call(called, arguments))
    elif name == "BUILD":
        state = stack.pop()
        _of_kind(stack[-1], _Call).state = state
    else:
        _refuse_call(f"does {name}")


def _group(stack: list[Any]) -> list[Any]:
    at = next(index for index in range(len(stack) - 1, -1, -1) if isinstance(stack[index], _Mark))
    group = stack[at + 1 :]
    del stack[at:]
    return group


def _pairs(group: list[Any]) -> Iterator[tuple[Any, Any]]:
    for key, value in zip(group[::2], group[1::2], strict=True):
        # A tuple of tuples of ... may take for ever to be made a key of.
        if not isinstance(key, str | bytes | int | float):
            raise TypeError("a key that is no plain value")
        yield key, value


def _of_kind(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} where {kind.__name__.strip('_')} should be")
    return value


def _named(name: str) -> _Name:
    if name not in _ALLOWED:
        _refuse_call(f"names {shown(name.replace(' ', '.'))}")
    return _Name(name)


def _arrays(value: Any) -> Iterator[tuple[StoredArray, bytes] | None]:
    """The arrays of bytes: what a dict calls ``data``, else all that it holds; or the value itself."""
    if isinstance(value, _Call) and value.name == "collections OrderedDict":
        value = value.state or {}
    if not isinstance(value, dict):
        yield _array("array", value)
        return
    for key in ("data", b"data"):
        if key in value and (found := _array("data", value[key])) is not None:
            yield found
            return
    for key, each in value.items():
        yield _array(str(key), each)


def _array(key: str, value: Any) -> tuple[StoredArray, bytes] | None:
    if not isinstance(value, _Call):
        return None
    if value.name in _RECONSTRUCT:
        _, shape, dtype, in_columns, values = _of_kind(value.state, tuple)
    elif value.name in _FROM_BUFFER:
        values, dtype, shape, order = _of_kind(value.arguments, tuple)
        in_columns = order == "F"
    else:
        return None
    if not isinstance(dtype, _Call) or dtype.name != _DTYPE or dtype.arguments[0] not in _BYTE_TYPES:
        return None
    if not isinstance(shape, tuple) or any(type(side) is not int or side < 0 for side in shape):
        raise ValueError("a shape that is none")
    return StoredArray(key, _unfolded(shape), BYTES, not in_columns, 0), _bytes(values)


def _unfolded(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[N, 3072] is [N, 3, 32, 32], channel by channel, and [N, 784] is [N, 28, 28]."""
    if len(shape) != 2:
        return shape
    for channels in (3, 1):
        side = math.isqrt(shape[1] // channels)
        if side and channels * side * side == shape[1]:
            return (shape[0], channels, side, side)
    return shape


def _bytes(values: Any) -> bytes:
    if isinstance(values, str):  # how Python 2 wrote bytes
        return values.encode("latin-1")
    if not isinstance(values, bytes | bytearray):
        raise TypeError("an array without its bytes")
    return bytes(values)


def _refuse_call(what: str) -> NoReturn:
    refuse("unsafe_archive", f"a pickle that {what}", "a dict with an array of bytes; pickles are not run", _CONVERSION)


def _damaged(why: str) -> NoReturn:
    refuse("truncated_archive", f"a damaged or cut-off pickle ({shown(why)})", "a whole one", "Copy it again.")
