"""The gate before a checkpoint in zip form is opened: two readers of one archive must read the same."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from typing import BinaryIO, NoReturn

from core.encoders.inspect_pickle import MAX_PICKLE_BYTES, check_pickle
from core.errors import UnsupportedInput

MAX_ENTRIES = 40_000
_PATH_PART = re.compile(r"[A-Za-z0-9_.\- ()+=,@]{1,200}")


def inspect_zip_checkpoint(file: BinaryIO, size: int) -> None:
    """Check a checkpoint in ``torch.save``'s zip form, a TorchScript archive, whose code is never opened, or an archive
    of named NumPy arrays.

    Raises:
        UnsupportedInput: ``unsafe_pickle``, ``unsafe_archive`` or ``unknown_format``.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _recognise(entries)
            _check_layout(file, archive, size)
            if holds_arrays(archive):
                return
            (pickle,) = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
            if pickle.file_size > MAX_PICKLE_BYTES:
                _archive(f"a data.pkl of {pickle.file_size} bytes", f"at most {MAX_PICKLE_BYTES} bytes")
            check_pickle(io.BytesIO(archive.read(pickle)))
    except (zipfile.BadZipFile, struct.error, UnicodeError, EOFError) as failure:
        _archive(f"a damaged zip ({failure})", "a complete file written by torch.save")


def holds_arrays(archive: zipfile.ZipFile) -> bool:
    """Whether this is what ``numpy.savez`` writes."""
    names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def extent(file: BinaryIO, entry: zipfile.ZipInfo) -> tuple[int, int]:
    """Where ``entry`` begins and ends in the file, its own header included; its bytes are the last ``compress_size``.

    Raises:
        UnsupportedInput: ``unsafe_archive``, its own header and the archive's list name it differently.
    """
    file.seek(entry.header_offset)
    fields = struct.unpack("<4s5H3L2H", file.read(30))
    if fields[0] != b"PK\x03\x04" or file.read(fields[9]) != entry.orig_filename.encode():
        _archive(f"an entry whose two headers disagree: {entry.filename}", "one name per entry")
    return entry.header_offset, entry.header_offset + 30 + fields[9] + fields[10] + entry.compress_size


_OF_WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".tar", ".bin", ".npz")


def _recognise(entries: list[zipfile.ZipInfo]) -> None:
    tails = {entry.filename.partition("/")[2] for entry in entries}
    names = {entry.filename for entry in entries}
    if "archive_format" in tails or any(tail.startswith(("models/", "data/aotinductor")) for tail in tails):
        _format("a torch.export archive (.pt2), which is a program")
    if names and all(name.endswith(".npy") for name in names):
        return
    pickles = sum(name.endswith("/data.pkl") for name in names)
    if pickles == 0:
        inside = sorted(name for name in names if name.endswith(_OF_WEIGHTS))
        if inside:
            few = ", ".join(ascii(name)[1:-1][:80] for name in inside[:3]) + (", ..." if len(inside) > 3 else "")
            _format(f"a zip in which lie {few}", "Unpack it and give one file of weights.")
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
    if len({entry.filename.casefold() for entry in entries if not _is_code(entry)}) != sum(
        not _is_code(entry) for entry in entries
    ):
        _archive("two entries of the same name", "each entry once")
    arrays = holds_arrays(archive)
    if not arrays and len({entry.filename.partition("/")[0] for entry in entries}) != 1:
        _archive("more than one folder", "one folder, as torch.save writes it")
    for entry in entries:
        parts = entry.filename.split("/")
        if ".." in parts or not all(_PATH_PART.fullmatch(part) for part in parts):
            _archive(f"an entry named {ascii(entry.filename)[:80]}", "plain names inside one folder")
        stored = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
        if not stored and not arrays and not _is_code(entry):
            _archive(f"the compressed entry {entry.filename}", "stored entries only, as torch.save writes them")
    position = 0
    for begin, end in sorted(extent(file, entry) for entry in entries):
        if begin < position or (position == 0 and begin != 0):
            _archive("entries that overlap, or bytes before the first", "entries one after the other")
        position = end
    file.seek(size - 22)
    if position > size or file.read(4) != b"PK\x05\x06":
        _archive("bytes after the end of the archive", "nothing after the archive")


def _is_code(entry: zipfile.ZipInfo) -> bool:
    """TorchScript's program text, which torch compresses and nobody here opens."""
    return entry.filename.partition("/")[2].startswith("code/")


def _archive(found: str, expected: str) -> NoReturn:
    raise UnsupportedInput(
        "unsafe_archive",
        field="encoder",
        found=found,
        expected=expected,
        action="Save the state dict again with torch.save, or better with safetensors.torch.save_file.",
    )


def _format(found: str, action: str = "Save model.state_dict() with safetensors.torch.save_file.") -> NoReturn:
    raise UnsupportedInput(
        "unknown_format",
        field="encoder",
        found=found,
        expected="a safetensors file or a state dict saved by torch.save",
        action=action,
    )
