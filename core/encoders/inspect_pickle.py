"""The gate before a PyTorch checkpoint is opened: which objects its pickle would build, read without building any.

A pickle is a program. This reads its instructions with ``pickletools`` and lets through only the few that a state dict
needs: an allow-list, since lists of known evil are always incomplete.
"""

from __future__ import annotations

import io
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

from core.errors import UnsupportedInput

MAX_PICKLE_BYTES = 64 * 2**20
MAX_ENTRIES = 40_000
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_DTYPES = ("float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool")
ALLOWED_GLOBALS = frozenset(
    {
        "collections.OrderedDict",
        "collections.Counter",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        "torch.nn.parameter.Parameter",
        "torch.Size",
        "torch.device",
        "torch.storage.UntypedStorage",
        "torch.storage.TypedStorage",
        # Values beside the weights in training checkpoints: parsed arguments, NumPy scalars such as a best accuracy.
        "argparse.Namespace",
        "_codecs.encode",
        "numpy.dtype",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
    }
    | {f"torch.{name}Storage" for name in _STORAGES}
    | {f"torch.cuda.{name}Storage" for name in _STORAGES}
    | {f"torch.{name}" for name in _DTYPES}
)
_ALLOWED_OPCODES = frozenset(
    "PROTO STOP GLOBAL NEWOBJ REDUCE BUILD APPEND APPENDS SETITEM SETITEMS MARK TUPLE TUPLE1 TUPLE2 TUPLE3 NONE "
    "NEWFALSE NEWTRUE EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET BININT BININT1 BININT2 BINFLOAT BINUNICODE "
    "SHORT_BINSTRING BINPERSID BINGET LONG_BINGET BINPUT LONG_BINPUT LONG1".split()
)
_PATH_PART = re.compile(r"[A-Za-z0-9_.\- ()+=,@]{1,200}")


def inspect_zip_checkpoint(file: BinaryIO, size: int) -> None:
    """Check a checkpoint in ``torch.save``'s zip form.

    Raises:
        UnsupportedInput: ``unsafe_pickle``, ``unsafe_archive`` or ``unknown_format``.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _recognise(entries)
            _check_layout(file, archive, size)
            (pickle,) = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
            if pickle.file_size > MAX_PICKLE_BYTES:
                _archive(f"a data.pkl of {pickle.file_size} bytes", f"at most {MAX_PICKLE_BYTES} bytes")
            _check_pickle(io.BytesIO(archive.read(pickle)))
    except (zipfile.BadZipFile, struct.error, UnicodeError, EOFError) as failure:
        _archive(f"a damaged zip ({failure})", "a complete file written by torch.save")


def inspect_legacy_checkpoint(file: BinaryIO) -> None:
    """Check a checkpoint in the older form of ``torch.save``: five pickles, then the raw numbers.

    Raises:
        UnsupportedInput: ``unsafe_pickle``, or ``unknown_format`` for a pickle that torch.save did not write.
    """
    head = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    values = _check_pickle(head)
    if _LEGACY_MAGIC not in values:
        raise UnsupportedInput(
            "unknown_format",
            field="encoder",
            found="a pickle that torch.save did not write",
            expected="a safetensors file or a state dict saved by torch.save",
            action="Save the state dict with safetensors.torch.save_file.",
        )
    for _ in range(4):
        _check_pickle(head)


def _recognise(entries: list[zipfile.ZipInfo]) -> None:
    tails = {entry.filename.partition("/")[2] for entry in entries}
    names = {entry.filename for entry in entries}
    if "constants.pkl" in tails or any(tail.startswith("code/") for tail in tails):
        _format("a TorchScript archive, which is a program")
    if "archive_format" in tails or any(tail.startswith(("models/", "data/aotinductor")) for tail in tails):
        _format("a torch.export archive (.pt2), which is a program")
    if names and all(name.endswith(".npy") for name in names):
        _format("a NumPy .npz archive")
    pickles = sum(name.endswith("/data.pkl") for name in names)
    if pickles == 0:
        _format("a zip that is not a PyTorch checkpoint")
    if pickles != 1 or sum(entry.filename.endswith("/data.pkl") for entry in entries) != 1:
        _archive(f"{pickles} pickles in one archive", "exactly one data.pkl")


def _check_layout(file: BinaryIO, archive: zipfile.ZipFile, size: int) -> None:
    """Refuse whatever two readers of the same zip could read differently."""
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        _archive(f"{len(entries)} entries", f"at most {MAX_ENTRIES}")
    if archive.comment or any(entry.flag_bits & 0x1 for entry in entries):
        _archive("an archive comment or an encrypted entry", "a file as torch.save writes it")
    if len({entry.filename.casefold() for entry in entries}) != len(entries):
        _archive("two entries of the same name", "each entry once")
    if len({entry.filename.partition("/")[0] for entry in entries}) != 1:
        _archive("more than one folder", "one folder, as torch.save writes it")
    for entry in entries:
        parts = entry.filename.split("/")
        if ".." in parts or not all(_PATH_PART.fullmatch(part) for part in parts):
            _archive(f"an entry named {ascii(entry.filename)[:80]}", "plain names inside one folder")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            _archive(f"the compressed entry {entry.filename}", "stored entries only, as torch.save writes them")
    position = 0
    for begin, end in sorted(_extent(file, entry) for entry in entries):
        if begin < position or (position == 0 and begin != 0):
            _archive("entries that overlap, or bytes before the first", "entries one after the other")
        position = end
    file.seek(size - 22)
    if position > size or file.read(4) != b"PK\x05\x06":
        _archive("bytes after the end of the archive", "nothing after the archive")


def _extent(file: BinaryIO, entry: zipfile.ZipInfo) -> tuple[int, int]:
    file.seek(entry.header_offset)
    fields = struct.unpack("<4s5H3L2H", file.read(30))
    if fields[0] != b"PK\x03\x04" or file.read(fields[9]) != entry.orig_filename.encode():
        _archive(f"an entry whose two headers disagree: {entry.filename}", "one name per entry")
    return entry.header_offset, entry.header_offset + 30 + fields[9] + fields[10] + entry.compress_size


def _check_pickle(stream: io.BytesIO) -> list[object]:
    """Walk one pickle; returns the constants it pushes. Nothing is built, nothing is imported."""
    constants: list[object] = []
    for name, argument, imported in _instructions(stream):
        if imported is not None and (imported not in ALLOWED_GLOBALS or name != "GLOBAL"):
            raise UnsupportedInput(
                "unsafe_pickle",
                field="encoder",
                found=f"a pickle that calls {ascii(imported)[1:-1][:120]}; it was not opened",
                expected="a state dict: tensors by name, nothing that runs",
                action="If it is your own checkpoint, save model.state_dict() with safetensors.torch.save_file."
                " If it came from others, treat the file as hostile.",
            )
        if name not in _ALLOWED_OPCODES:
            raise UnsupportedInput(
                "unsafe_pickle",
                field="encoder",
                found=f"a pickle with the instruction {name}, which no state dict needs; it was not opened",
                expected="a state dict saved by torch.save with its default settings",
                action="Save model.state_dict() with safetensors.torch.save_file.",
            )
        if isinstance(argument, int):
            constants.append(argument)
    return constants


def _instructions(stream: io.BytesIO) -> Iterator[tuple[str, Any, str | None]]:
    """(opcode, argument, global it imports) up to STOP.

    STACK_GLOBAL takes its name from the stack; the last two strings pushed or recalled are what it will import in any
    pickle that Python writes, and the instruction is refused whatever they are. Refusals must name a global if there
    is one, so an instruction that is not allowed is reported only after the rest has been searched for one.
    """
    texts: list[str] = []
    memo: dict[Any, str] = {}  # by the integer argument of PUT and GET
    last = ""
    refused: list[tuple[str, Any, str | None]] = []
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            imported = None
            if opcode.name in ("GLOBAL", "INST"):
                imported = str(argument).replace(" ", ".", 1)
            elif opcode.name == "STACK_GLOBAL":
                imported = ".".join(texts[-2:])
            elif opcode.name.startswith("EXT"):
                imported = f"extension {argument}"
            elif "UNICODE" in opcode.name or "STRING" in opcode.name:
                last = str(argument)
                texts.append(last)
            elif opcode.name == "MEMOIZE":
                memo[len(memo)] = last
            elif opcode.name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = last
            elif opcode.name in ("BINGET", "LONG_BINGET") and argument in memo:
                texts.append(memo[argument])
            if imported is None and opcode.name not in _ALLOWED_OPCODES:
                refused = refused or [(opcode.name, argument, None)]
            else:
                yield opcode.name, argument, imported
    except (ValueError, IndexError, UnicodeError, struct.error, OverflowError) as failure:
        raise UnsupportedInput(
            "unknown_format",
            field="encoder",
            found=f"a damaged or cut-off pickle ({str(failure)[:80]})",
            expected="a complete file written by torch.save",
            action="Copy the file again.",
        ) from failure
    yield from refused


def _archive(found: str, expected: str) -> NoReturn:
    raise UnsupportedInput(
        "unsafe_archive",
        field="encoder",
        found=found,
        expected=expected,
        action="Save the state dict again with torch.save, or better with safetensors.torch.save_file.",
    )


def _format(found: str) -> NoReturn:
    raise UnsupportedInput(
        "unknown_format",
        field="encoder",
        found=found,
        expected="a safetensors file or a state dict saved by torch.save",
        action="Save model.state_dict() with safetensors.torch.save_file.",
    )
