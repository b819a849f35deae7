"""Reading a pickle of torch's without running any of it: only in the confined child process.

``InertUnpickler`` imports nothing. Tensors become :class:`TensorRecord`: where their numbers lie. Objects of any other
class become :class:`Inert`, which keeps what was stored in it and can do nothing; so even a whole pickled network, or a
TorchScript archive, gives its weights without its code.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from core.encoders.pickle_policy import REBUILDS, STORAGES, Treatment, is_storage, treatment

_NUMPY_SCALARS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


class Refused(Exception):
    """What the checkpoint holds that no encoder needs: ``code`` and words for the user."""

    def __init__(self, code: str, found: str) -> None:
        super().__init__(found)
        self.code = code


class Inert:
    """An object of a class that was not imported. ``state`` is what the pickle gave it, ``items`` what it put into it,
    ``arguments`` what it was made from."""

    global_name = "object"

    def __new__(cls, *arguments: Any, **named: Any) -> Inert:
        made = super().__new__(cls)
        made.arguments, made.state, made.items = arguments, None, {}
        return made

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.arguments: tuple[Any, ...]
        self.state: Any
        self.items: dict[Any, Any]

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def __call__(self, *arguments: Any, **named: Any) -> Inert:
        return Inert()

    def append(self, value: Any) -> None:
        self.items[len(self.items)] = value

    def extend(self, values: Iterable[Any]) -> None:
        for value in values:
            self.append(value)

    def add(self, value: Any) -> None:
        self.append(value)


@dataclass
class StorageRecord:
    """A run of numbers: ``key`` names it in the file, ``dtype`` is torch's word (None: bytes), ``size`` counts numbers
    of that type, ``begin`` is where a view into it begins."""

    key: str
    dtype: str | None
    size: int
    begin: int = 0


class TensorRecord:
    """A tensor that was described and not yet read; sizes, strides and offset count numbers of ``dtype``."""

    def __init__(
        self, storage: StorageRecord, dtype: str, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
    ):
        self.storage, self.dtype, self.offset, self.shape, self.stride = storage, dtype, offset, shape, stride

    def __setstate__(self, state: Any) -> None:
        """Attributes that somebody hung on the tensor are nobody's weights."""


class _Builder:
    """One of our own functions under the name that the pickle knows."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


class InertUnpickler(pickle.Unpickler):
    """An unpickler that imports nothing; ``skipped`` collects the names it put placeholders for."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.skipped: dict[str, type[Inert]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Our own builder or a placeholder for ``module.name``.

        Raises:
            Refused: a name that no checkpoint needs.
        """
        full = f"{module}.{name}"
        kind = treatment(full)
        if kind is Treatment.HOSTILE:
            raise Refused("unsafe_pickle", f"a pickle that calls {ascii(full)[1:-1][:120]}; it was not run")
        if kind is Treatment.BUILT:
            return _builder(full)
        if full not in self.skipped:
            self.skipped[full] = type("Inert", (Inert,), {"global_name": full})
        return self.skipped[full]

    def persistent_load(self, pid: Any) -> Any:
        """The storage that a tensor lies in, ``("storage", type, key, device, size[, view])``; or, of the older form,
        the class of a network with its source text, ``("module", class, file, text)``."""
        if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module":
            return pid[1]
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] not in ("storage", b"storage"):
            raise Refused("unsafe_checkpoint", "a reference to something that is not a storage")
        kind, key, size, view = pid[1], str(pid[2]), pid[4], pid[5] if len(pid) == 6 else None
        dtype = kind.dtype if isinstance(kind, _StorageType) else None
        if not isinstance(size, int) or size < 0:
            raise Refused("unsafe_checkpoint", "a storage without a size")
        if view is None:
            return StorageRecord(key, dtype, size)
        if not (isinstance(view, tuple) and len(view) == 3 and isinstance(view[1], int) and view[1] >= 0):
            raise Refused("unsafe_checkpoint", "a storage that is a malformed view of another")
        return StorageRecord(key, dtype, size, begin=view[1])


@dataclass(frozen=True)
class _StorageType:
    dtype: str


def _builder(name: str) -> Any:
    if is_storage(name):
        return _StorageType(STORAGES[name.rpartition(".")[2].removesuffix("Storage")])
    if name in REBUILDS:
        return _Builder(_REBUILD[name.rpartition(".")[2]])
    match name.rpartition(".")[2]:
        case "OrderedDict":
            return OrderedDict
        case "defaultdict":
            return _Builder(lambda *arguments: {})
        case "Counter":
            return _Builder(lambda counts=(): dict(counts))
        case "set":
            return set
        case "Size":
            return _Builder(lambda sizes=(): tuple(sizes))
        case "encode":
            return _Builder(_encode)
        case "dtype":
            return _NumpyType
        case "scalar":
            return _Builder(_numpy_scalar)
        case "getattr":
            return _Builder(_member)
    raise Refused("unsafe_pickle", f"a pickle that calls {ascii(name)[1:-1][:120]}; it was not run")


def _rebuild_tensor(
    storage: Any, offset: Any = 0, shape: Any = (), stride: Any = (), *rest: Any, dtype: str | None = None
) -> TensorRecord:
    known = storage.dtype if isinstance(storage, StorageRecord) else None
    numbers = [offset, *shape, *stride]
    if not isinstance(storage, StorageRecord) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise Refused("unsafe_checkpoint", "a tensor without plain numbers")
    if (dtype or known) is None or len(shape) != len(stride):
        raise Refused("unsafe_checkpoint", "a tensor of an unknown type or shape")
    return TensorRecord(storage, str(dtype or known), offset, tuple(shape), tuple(stride))


def _rebuild_tensor_v3(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> TensorRecord:
    """``rest`` is requires_grad, hooks, dtype, ...: the form for types that have no storage class of their own."""
    name = getattr(rest[2], "global_name", "") if len(rest) > 2 else ""
    return _rebuild_tensor(storage, offset, shape, stride, dtype=name.removeprefix("torch.") or None)


def _rebuild_from_type(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    if not isinstance(function, _Builder) or not isinstance(arguments, tuple):
        raise Refused("unsafe_checkpoint", "a tensor of a class of its own")
    return function(*arguments)


_REBUILD: Mapping[str, Callable[..., Any]] = {
    "_rebuild_tensor": _rebuild_tensor,
    "_rebuild_tensor_v2": _rebuild_tensor,
    "_rebuild_tensor_v3": _rebuild_tensor_v3,
    "_rebuild_parameter": lambda data, *rest: data,
    "_rebuild_parameter_with_state": lambda data, *rest: data,
    "_rebuild_from_type_v2": _rebuild_from_type,
    "Parameter": lambda data, *rest: data,
}


class _NumpyType:
    """``numpy.dtype("f8")``, as far as a scalar needs it."""

    def __init__(self, code: Any = "", *rest: Any) -> None:
        self.code = str(code)

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like; ours are little-endian."""


def _numpy_scalar(kind: Any, data: Any = b"", *rest: Any) -> Any:
    """A NumPy number as Python's; an inert object for anything else."""
    import numpy as np

    if isinstance(kind, _NumpyType) and kind.code in _NUMPY_SCALARS and isinstance(data, bytes):
        numbers = np.frombuffer(data, dtype=f"<{kind.code}")
        if numbers.size == 1:
            return numbers[0].item()
    return Inert()


def _encode(text: Any, encoding: Any = "latin1", *rest: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "utf8", "ascii"):
        raise Refused("unsafe_pickle", "a pickle that encodes something else than text")
    return text.encode(encoding)


def _member(owner: Any, name: Any = "", *rest: Any) -> Inert:
    """The member of a skipped class, such as an enumeration's; nothing else may be asked for an attribute."""
    skipped = isinstance(owner, type) and issubclass(owner, Inert)
    if not skipped or not isinstance(name, str) or name.startswith("_"):
        raise Refused("unsafe_pickle", "a pickle that calls builtins.getattr; it was not run")
    return Inert()
