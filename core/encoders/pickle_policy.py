"""What is done with each name that a pickle asks for.

Three answers. A few names are *built*, by our own code, because tensors and plain values need them. Names that a
program needs and a checkpoint does not are *hostile*: the file is refused and they are named. Everything else
(configuration objects, callbacks, paths, dates) is *skipped*: neither imported nor called, an inert placeholder stands
in its place.
Safety rests on the first list alone; the list of evil, which can never be complete, only decides who is warned.
"""

from __future__ import annotations

from enum import Enum, auto


class Treatment(Enum):
    BUILT = auto()
    SKIPPED = auto()
    HOSTILE = auto()


STORAGES = {
    "Float": "float32",
    "Double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
}
"""The type of the numbers in ``torch.<key>Storage``."""

REBUILDS = frozenset(
    {
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch._tensor._rebuild_from_type_v2",
        "torch.nn.parameter.Parameter",
    }
)
_BUILT = REBUILDS | {
    "collections.OrderedDict",
    "collections.defaultdict",
    "collections.Counter",
    "builtins.set",
    "__builtin__.set",
    "torch.Size",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "builtins.getattr",  # how Python 3.11 writes the member of an enumeration; anything else it is used for is refused
    "__builtin__.getattr",
}

_HOSTILE_MODULES = frozenset(
    "os posix nt ntpath subprocess _posixsubprocess commands popen2 pty sys shutil socket _socket ssl select "
    "runpy importlib _frozen_importlib _frozen_importlib_external imp zipimport pkgutil pickle _pickle cPickle "
    "shelve marshal ctypes _ctypes cffi webbrowser code codeop pdb bdb cProfile profile timeit doctest trace "
    "idlelib lib2to3 venv ensurepip pip setuptools distutils sysconfig site signal _signal gc inspect linecache "
    "tempfile tarfile zipfile sqlite3 platform http urllib urllib2 urllib3 requests httpx aiohttp httplib ftplib "
    "smtplib telnetlib poplib imaplib xmlrpc socketserver asyncio _thread antigravity torch.hub torch.package "
    "torch.fx torch.jit torch.utils.cpp_extension torch.utils.bottleneck torch.utils.collect_env "
    "torch.utils.model_zoo torch._dynamo torch._inductor torch.distributed.rpc torch.distributed.run "
    "torch.serialization torch._utils torch.storage torch.ops torch.classes torch._ops torch._classes "
    "torch.testing torch.onnx torch.export torch._export multiprocessing.util logging.config numpy.f2py "
    "numpy.distutils numpy.testing numpy.ctypeslib".split()
)
_HOSTILE_BUILTINS = frozenset(
    "eval exec execfile compile open file __import__ setattr delattr globals locals vars input raw_input breakpoint "
    "apply memoryview exit quit help".split()
)
_HOSTILE_NAMES = frozenset(
    "io.open io.FileIO io.open_code _io.open _io.FileIO _io.open_code operator.attrgetter operator.methodcaller "
    "_operator.attrgetter _operator.methodcaller types.CodeType types.FunctionType types.MethodType functools.reduce "
    "_functools.reduce torch.load numpy.load numpy.loads numpy.memmap numpy.fromfile numpy.core.multiarray.fromfile "
    "joblib.load dill.load dill.loads cloudpickle.load cloudpickle.loads "
    "cloudpickle.cloudpickle.subimport dill._dill._import_module".split()
)
_PERMITTED = ("__torch__.", "torch.jit._pickle.", "torch.storage.UntypedStorage", "torch.storage.TypedStorage")
"""What TorchScript calls its classes and its lists, and storages by their other names: passed over like any class."""


def treatment(name: str) -> Treatment:
    """What to do with the global ``name``, dotted, module first."""
    if name in _BUILT or is_storage(name):
        return Treatment.BUILT
    if name.startswith(_PERMITTED):
        return Treatment.SKIPPED
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts) or any(part.startswith("__") for part in parts[1:]):
        return Treatment.HOSTILE  # a name that is computed, or what leads from a harmless class to a harmful module
    heads = {".".join(parts[:length]) for length in range(1, len(parts))}
    if heads & _HOSTILE_MODULES or name in _HOSTILE_NAMES:
        return Treatment.HOSTILE
    if parts[0] in ("builtins", "__builtin__", "__builtins__") and (len(parts) != 2 or parts[1] in _HOSTILE_BUILTINS):
        return Treatment.HOSTILE
    return Treatment.SKIPPED


def is_storage(name: str) -> bool:
    """Whether ``name`` is a class of storage whose numbers have a known type."""
    module, _, last = name.rpartition(".")
    return module in ("torch", "torch.cuda") and last.removesuffix("Storage") in STORAGES and last.endswith("Storage")
