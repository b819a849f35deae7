"""Images in tars: every way to write one gives the set that a zip of the same files gives."""

from __future__ import annotations

import io
import lzma
import sys
import tarfile
from pathlib import Path

import pytest

from core.errors import UnsupportedInput
from core.images import unpack
from core.images.labelled import load_labelled
from core.images.load import load_images
from tests.unit.images.pictures import SIZE, class_files, entry, picture, tarred, zipped

LONG = "a-folder-with-a-long-name/" * 6 + "picture.png"  # beyond the 100 characters of the classic field
FILES = {"b/2.png": picture(2), "a/1.png": picture(1), LONG: picture(3), "a/été.png": picture(4), "notes.txt": b"text"}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_tar_is_the_same_set_as_a_zip(tmp_path: Path, form: int) -> None:
    files = FILES if form != tarfile.USTAR_FORMAT else {name.replace("é", "e"): data for name, data in FILES.items()}
    expected = load_images(zipped(tmp_path / "x.zip", files), SIZE, minimum=4)
    found = load_images(tarred(tmp_path / "x", files, form=form), SIZE, minimum=4)
    assert found.names == expected.names
    assert found.digest == expected.digest
    assert found.rejected == expected.rejected
    assert [image.name for image in found.rejected] == ["notes.txt"]


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_compressed_tars_are_known_by_their_content(tmp_path: Path, mode: str) -> None:
    plain = load_images(tarred(tmp_path / "plain", FILES), SIZE, minimum=4)
    packed = load_images(tarred(tmp_path / "images.zip", FILES, mode), SIZE, minimum=4)
    assert packed.digest == plain.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.zip", "plain"]


def test_streams_one_after_another_are_one_archive(tmp_path: Path) -> None:

    content = tarred(tmp_path / "plain", FILES).read_bytes()
    (tmp_path / "x.tar.xz").write_bytes(lzma.compress(content[:700]) + bytes(4) + lzma.compress(content[700:]))
    assert (
        load_images(tmp_path / "x.tar.xz", SIZE, minimum=4).names
        == load_images(tmp_path / "plain", SIZE, minimum=4).names
    )


def test_a_folder_that_cannot_be_written_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tarred(tmp_path / "x.tar.gz", FILES, "w:gz")
    real = unpack.tempfile.TemporaryFile

    def refusing(dir: Path | None = None) -> object:
        if dir is not None:
            raise PermissionError(13, "Permission denied")
        return real()

    monkeypatch.setattr(unpack.tempfile, "TemporaryFile", refusing)
    assert len(load_images(path, SIZE, minimum=4)) == 4


def test_zstandard_is_read_where_python_can(tmp_path: Path) -> None:
    zstd = pytest.importorskip("compression.zstd")
    path = tmp_path / "x.tar.zst"
    path.write_bytes(zstd.compress(tarred(tmp_path / "plain", FILES).read_bytes()))
    assert load_images(path, SIZE, minimum=4).digest == load_images(tmp_path / "plain", SIZE, minimum=4).digest


def test_zstandard_is_refused_where_python_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    path = tmp_path / "x.tar.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    with pytest.raises(UnsupportedInput) as caught:
        load_images(path, SIZE)
    assert caught.value.problem.code == "unsupported_compression"


def test_folders_and_a_dot_before_names_change_nothing(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.addfile(entry("./", kind=tarfile.DIRTYPE))
        archive.addfile(entry("./a", kind=tarfile.DIRTYPE))
        archive.addfile(entry("./a//1.png", len(picture())), io.BytesIO(picture()))
        archive.addfile(entry("./.DS_Store", 1), io.BytesIO(b"x"))
    images = load_images(tmp_path / "x.tar", SIZE, minimum=1)
    assert images.names == ("a/1.png",)
    assert images.rejected == ()


def test_a_name_that_is_not_utf8_is_read_as_latin1(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        archive.addfile(entry("été.png", len(picture())), io.BytesIO(picture()))
    assert load_images(tmp_path / "x.tar", SIZE, minimum=1).names == ("été.png",)


def test_what_stands_beside_an_image_in_a_sample_is_passed_over(tmp_path: Path) -> None:
    files = {
        "s/0001.jpg": picture(1),
        "s/0001.json": b"{}",
        "s/0001.cls": b"3",
        "s/0002.seg.png": picture(2),
        "s/0002.txt": b"a caption",
        "s/0003.txt": b"a caption without an image",
        "s/0001": picture(3),
    }
    images = load_images(tarred(tmp_path / "x.tar", files), SIZE, minimum=1)
    assert images.names == ("s/0001", "s/0001.jpg", "s/0002.seg.png")
    assert [image.name for image in images.rejected] == ["s/0003.txt"]


def test_class_folders_are_labels(tmp_path: Path) -> None:
    zip_path, tar_path = tmp_path / "x.zip", tmp_path / "x.tgz"
    expected = load_labelled(zipped(zip_path, class_files()), SIZE, minimum=12)
    found = load_labelled(tarred(tar_path, class_files(), "w:gz"), SIZE, minimum=12)
    assert found.classes == expected.classes == ("ant", "cat", "dog")
    assert found.labels.tolist() == expected.labels.tolist()


def test_an_empty_tar_has_no_images(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedInput) as caught:
        load_images(tarred(tmp_path / "x.tar", {}), SIZE)
    assert caught.value.problem.code == "no_images"


def test_a_size_beyond_the_classic_field_is_read_from_the_extended_header(tmp_path: Path) -> None:
    """Nine digits would do here; what counts is that the header for the next file is believed, as its writer meant."""
    data = picture()
    record = b"size=%d\n" % len(data)
    body = b"%d %s" % (len(record) + 3, record)
    header, member = entry("x", len(body), tarfile.XHDTYPE), entry("a.png", 0)
    content = b""
    for info, written in ((header, body), (member, data), (entry("b.png", len(picture(1))), picture(1))):
        content += info.tobuf(tarfile.USTAR_FORMAT) + written + bytes(-len(written) % 512)
    (tmp_path / "x.tar").write_bytes(content + bytes(1024))
    assert load_images(tmp_path / "x.tar", SIZE, minimum=2).names == ("a.png", "b.png")
