"""One file with images in it, opened by what it is, whatever it is called: zip, npz, tar or Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.images.archive import FORMS, Members, refuse
from core.images.npz_arrays import is_npz, open_npz
from core.images.parquet_table import ENCRYPTED, MAGIC, open_parquet
from core.images.tar_archive import is_tar, open_tar
from core.images.tar_headers import BLOCK
from core.images.unpack import compression_of
from core.images.zip_archive import open_zip


@contextmanager
def open_file(path: Path) -> Iterator[Members]:
    """The images in the file at ``path``.

    Raises:
        UnsupportedInput: ``not_an_archive``, or a file that is damaged or hostile; see the module of each form.
        UsageError: ``missing_extra`` for a Parquet file without pyarrow.
    """
    with path.open("rb") as file:
        start = file.read(BLOCK)
    compression = compression_of(start)
    if start.startswith(b"PK"):
        with open_zip(path) as archive:
            if is_npz(archive):
                with open_npz(archive) as images:
                    yield images
            else:
                yield archive
    elif start.startswith(MAGIC):
        with open_parquet(path) as rows:
            yield rows
    elif compression is not None or is_tar(start):
        with open_tar(path, compression) as members:
            yield members
    elif start.startswith(ENCRYPTED):
        refuse("encrypted_archive", "an encrypted Parquet file", "one without a key", "Write it without encryption.")
    else:
        found = "a file that is neither zip, tar, parquet nor npz" if start else "an empty file"
        refuse("not_an_archive", found, FORMS, "Put the images into a zip or tar.")
