"""One file with images in it, opened by what it is, whatever it is called: an archive, a table or an array."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from core.images.archive import FORMS, Members, refuse
from core.images.array_files import is_idx, open_idx, open_npy
from core.images.arrow_table import is_arrow, open_arrow
from core.images.npz_arrays import is_npz, open_npz
from core.images.parquet_table import ENCRYPTED, MAGIC, open_parquet
from core.images.pickled_arrays import is_pickle, open_pickle
from core.images.stored_array import NPY_MAGIC
from core.images.strangers import TENSOR_LINE, stranger_for_a_set
from core.images.tar_archive import is_tar, open_tar
from core.images.tar_headers import BLOCK
from core.images.unpack import compression_of, unpacked
from core.images.zip_archive import open_zip


@contextmanager
def open_file(path: Path) -> Iterator[Members]:
    """The images in the file at ``path``.

    Raises:
        UnsupportedInput: ``not_an_archive``, or a file that is damaged or hostile; see the module of each form.
        UsageError: ``missing_extra`` for a Parquet or Arrow file without pyarrow.
    """
    with path.open("rb") as file:
        start = file.read(BLOCK)
        if start.startswith(b"PK"):
            with open_zip(path) as archive:
                if is_npz(archive):
                    with open_npz(archive) as images:
                        yield images
                else:
                    if any(name.endswith("/data.pkl") for name in archive.names()):
                        refuse("not_an_archive", "a PyTorch file", FORMS, f"Convert it: {TENSOR_LINE}")
                    yield archive
        elif is_tar(start):
            yield open_tar(file)
        elif (compression := compression_of(start)) is not None:
            with unpacked(file, compression, beside=path.parent) as content:
                if is_tar(content.read(BLOCK)):
                    yield open_tar(content)
                else:
                    with open_set_file(content) as members:
                        yield members
        else:
            with open_set_file(file) as members:
                yield members


@contextmanager
def open_set_file(file: BinaryIO) -> Iterator[Members]:
    """The images in a ``file`` that is a table or an array, not compressed.

    Raises:
        UnsupportedInput, UsageError: as :func:`open_file`.
    """
    file.seek(0)
    start = file.read(BLOCK)
    if start.startswith(MAGIC):
        with open_parquet(file) as rows:
            yield rows
    elif start.startswith(NPY_MAGIC):
        yield open_npy(file)
    elif is_idx(start):
        yield open_idx(file)
    elif is_arrow(start):
        yield open_arrow(file)
    elif is_pickle(start):
        yield open_pickle(file)
    elif start.startswith(ENCRYPTED):
        refuse("encrypted_archive", "an encrypted Parquet file", "one without a key", "Write it without encryption.")
    else:
        found, action = stranger_for_a_set(start)
        refuse("not_an_archive", found, FORMS, action)


def is_set_file(start: bytes) -> bool:
    """Whether a file that begins with ``start`` is a table or an array, as far as can be seen from there."""
    magic = start.startswith((MAGIC, NPY_MAGIC))
    return magic or is_idx(start) or is_arrow(start) or is_pickle(start)
