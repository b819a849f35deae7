"""Zips made to fill a disk, to write elsewhere, or to be read in two ways."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from core.errors import UnsupportedInput
from core.images.archive import MAX_MEMBER_BYTES, ODD_NAME
from core.images.load import load_images


def refusal(path: Path) -> str:
    with pytest.raises(UnsupportedInput) as caught:
        load_images(path, (16, 16), minimum=1)
    assert caught.value.problem.sentence().isprintable()
    return caught.value.problem.code


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((16, 16), 50).save(buffer, "PNG")
    return buffer.getvalue()


def archive_of(path: Path, *entries: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in entries:
            archive.writestr(entry, content)
    return path


def test_a_small_zip_that_unpacks_to_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.png", bytes(8 * 2**20))
    assert path.stat().st_size < 2**16
    assert refusal(path) == "zip_bomb"


def test_many_small_files_that_unpack_to_much(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(90):
            archive.writestr(f"{i}.bmp", bytes(1_000_000))
    assert refusal(path) == "zip_bomb"


def test_entries_that_share_their_bytes(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "overlap.zip", ("a.png", picture()), ("b.png", picture()))
    with zipfile.ZipFile(path, "a") as archive:
        first, second = archive.infolist()
        second.header_offset = first.header_offset
        archive.comment = b"written again"
    assert refusal(path) == "zip_bomb"


def link() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("link.png")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        "../outside.png",
        "/etc/absolute.png",
        "a/../../b.png",
        "..\\outside.png",
        "a\\..\\..\\b.png",
        "C:\\absolute.png",
        "\\\\server\\share.png",
        "../outside\n.png",
        link(),
    ],
)
def test_names_that_lead_elsewhere(tmp_path: Path, entry: zipfile.ZipInfo | str) -> None:
    assert refusal(archive_of(tmp_path / "x.zip", (entry, picture()))) == "unsafe_archive"


@pytest.mark.parametrize("odd", ["back\\slash.png", "line\nbreak.png", "\x1b[31m.png", "a\u202egnp.exe.png"])
def test_an_odd_name_costs_its_own_entry_only(tmp_path: Path, odd: str) -> None:
    path = archive_of(tmp_path / "x.zip", ("a.png", picture()), (odd, picture()), ("b.png", picture()))
    images = load_images(path, (16, 16), minimum=2)
    assert images.names == ("a.png", "b.png")
    (rejected,) = images.rejected
    assert (rejected.name, rejected.reason) == (ascii(odd)[1:-1], ODD_NAME)


def test_what_macos_calls_icon_is_passed_over(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "x.zip", ("a.png", picture()), ("folder/Icon\r", b""), ("__MACOSX/._a\\b", b""))
    assert load_images(path, (16, 16), minimum=1).rejected == ()


def test_nothing_but_odd_names(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "x.zip", *((f"folder\\{i}.png", picture()) for i in range(3)))
    with pytest.raises(UnsupportedInput) as caught:
        load_images(path, (16, 16), minimum=1)
    assert "3 files rejected" in caught.value.problem.found and "rename it" in caught.value.problem.found
    assert caught.value.problem.sentence().isprintable()


def test_an_entry_without_a_name(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("a.png")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        entry.filename = ""
        with archive.open(entry, "w") as file:
            file.write(picture())
    assert refusal(tmp_path / "x.zip") == "unsafe_archive"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice(tmp_path: Path) -> None:
    assert refusal(archive_of(tmp_path / "x.zip", ("a.png", picture()), ("a.png", picture()))) == "unsafe_archive"


def test_an_unusual_compression(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.png", picture())
    assert refusal(path) == "unsafe_archive"


def test_an_encrypted_zip(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "x.zip", ("a.png", picture()))
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the local header's flag
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the directory's
    path.write_bytes(data)
    assert refusal(path) == "encrypted_archive"


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "not_an_archive"), (b"\x89PNG\r\n\x1a\n", "not_an_archive"), (b"PK\x03\x04cut", "truncated_archive")],
)
def test_files_that_are_no_archive(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    assert refusal(path) == code


def test_a_member_too_large_is_named_and_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.png").write_bytes(picture())
    with (folder / "large.bmp").open("wb") as file:
        file.truncate(MAX_MEMBER_BYTES + 1)
    (rejected,) = load_images(folder, (16, 16), minimum=1).rejected
    assert rejected.name == "large.bmp"


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_damaged_zip_is_refused_or_its_images_are_named(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int
) -> None:
    path = archive_of(tmp_path_factory.mktemp("zip") / "x.zip", ("a.png", picture()), ("b.png", picture()))
    data = bytearray(path.read_bytes())
    data[position % len(data)] = byte
    path.write_bytes(data)
    outcome: object
    try:
        images = load_images(path, (16, 16), minimum=0)
        outcome = len(images) + len(images.rejected)
    except UnsupportedInput as error:
        outcome = error.problem.field
    assert outcome in (0, 1, 2, "images")
