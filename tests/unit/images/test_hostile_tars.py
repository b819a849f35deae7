"""Tars made to fill a disk, to write elsewhere, to be read in two ways, or to keep their reader busy for ever."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import AuditError, UnsupportedInput
from core.images import archive, tar_headers
from core.images.archive import MAX_MEMBER_BYTES, ODD_NAME
from core.images.load import load_images
from tests.unit.images.pictures import SIZE, entry, picture, raw_tar, tarred


def refusal(path: Path) -> str:
    with pytest.raises(UnsupportedInput) as caught:
        load_images(path, SIZE, minimum=1)
    assert caught.value.problem.sentence().isprintable()
    return caught.value.problem.code


@pytest.mark.parametrize(
    "name", ["../outside.png", "/etc/absolute.png", "a/../../b.png", "..\\outside.png", "C:\\a.png", "../\x1b[31m"]
)
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    assert refusal(tarred(tmp_path / "x.tar", {"a.png": picture(), name: picture()})) == "unsafe_archive"


@pytest.mark.parametrize("odd", ["back\\slash.png", "line\nbreak.png", "\x1b[31m.png"])
def test_an_odd_name_costs_its_own_entry_only(tmp_path: Path, odd: str) -> None:
    images = load_images(tarred(tmp_path / "x.tar", {"a.png": picture(), odd: picture(1)}), SIZE, minimum=1)
    assert images.names == ("a.png",)
    assert [(image.name, image.reason) for image in images.rejected] == [(ascii(odd)[1:-1], ODD_NAME)]


def test_an_odd_name_in_a_shard_is_named_with_it(tmp_path: Path) -> None:
    tarred(tmp_path / "train-0.tar", {"a.png": picture(), "b\n.png": picture(1)})
    (rejected,) = load_images(tmp_path, SIZE, minimum=1).rejected
    assert rejected.name == "train-0.tar!/b\\n.png"


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"S", b"Z"]
)
def test_links_devices_and_oddities(tmp_path: Path, kind: bytes) -> None:
    special = entry("link.png", kind=kind, linkname="/etc/passwd")
    path = raw_tar(tmp_path / "x.tar", (entry("a.png", len(picture())), picture()), (special, b""))
    assert refusal(path) == "unsafe_archive"


def test_a_file_without_a_name(tmp_path: Path) -> None:
    assert refusal(raw_tar(tmp_path / "x.tar", (entry("", len(picture())), picture()))) == "unsafe_archive"


def test_one_name_twice_also_when_it_is_written_differently(tmp_path: Path) -> None:
    assert refusal(tarred(tmp_path / "x.tar", {"a.png": picture(), "./a.png": picture(1)})) == "unsafe_archive"


def pax(**records: str) -> tuple[tarfile.TarInfo, bytes]:
    body = b""
    for key, value in records.items():
        record = f" {key.replace('_', '.')}={value}\n".encode()
        length = len(record) + 1
        while len(str(length)) + len(record) != length:
            length += 1
        body += str(length).encode() + record
    return entry("pax", len(body), tarfile.XHDTYPE), body


@pytest.mark.parametrize(
    ("records", "code"),
    [
        ({"GNU_sparse_size": "1000000000000"}, "unsafe_archive"),
        ({"path": "../outside.png"}, "unsafe_archive"),
        ({"size": "-1536"}, "truncated_archive"),  # leads back to this header: a reader that follows never ends
        ({"size": "99999999999999999999999"}, "truncated_archive"),
        ({"size": "1000000"}, "truncated_archive"),
    ],
)
def test_extended_headers_that_lie(tmp_path: Path, records: dict[str, str], code: str) -> None:
    member = (entry("a.png", len(picture())), picture())
    assert refusal(raw_tar(tmp_path / "x.tar", pax(**records), member)) == code


def test_a_name_for_all_files(tmp_path: Path) -> None:
    header, body = pax(path="a.png")
    header.type = tarfile.XGLTYPE
    assert refusal(raw_tar(tmp_path / "x.tar", (header, body))) == "unsafe_archive"


@pytest.mark.parametrize("body", [b"", b"5 a=b", b"x a=b\n", b"99 a=b\n", b"0 a=b\n", b"7 a  b\n"])
def test_malformed_extended_headers(tmp_path: Path, body: bytes) -> None:
    header = entry("pax", 8, tarfile.XHDTYPE)
    assert refusal(raw_tar(tmp_path / "x.tar", (header, body.ljust(8, b"\0")))) == "truncated_archive"


def test_a_negative_size(tmp_path: Path) -> None:
    block = bytearray(entry("a.png").tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 12  # minus one, as a binary number
    block[148:156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * 32)
    (tmp_path / "x.tar").write_bytes(bytes(block) + bytes(1024))
    assert refusal(tmp_path / "x.tar") == "truncated_archive"


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_name_of_megabytes(tmp_path: Path, kind: bytes) -> None:
    body = bytes(2**20 + 1)
    assert refusal(raw_tar(tmp_path / "x.tar", (entry("x", len(body), kind), body))) == "zip_bomb"


def test_headers_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_headers, "_MAX_HEADERS", 20)
    folders = [(entry(f"{i}", kind=tarfile.DIRTYPE), b"") for i in range(30)]
    assert refusal(raw_tar(tmp_path / "x.tar", *folders)) == "zip_bomb"


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    assert refusal(tarred(tmp_path / "x.tar", {f"{i}.png": picture() for i in range(4)})) == "zip_bomb"


@pytest.mark.parametrize("kept", [0.4, 0.9, 0.99])
def test_a_tar_that_is_cut_off(tmp_path: Path, kept: float) -> None:
    content = tarred(tmp_path / "x.tar", {f"{i}.png": picture(i) for i in range(20)}).read_bytes()
    whole = content.rstrip(b"\0")
    (tmp_path / "x.tar").write_bytes(whole[: int(len(whole) * kept)])
    assert refusal(tmp_path / "x.tar") == "truncated_archive"


def test_a_tar_cut_between_two_files(tmp_path: Path) -> None:
    header, data = entry("a.png", len(picture())), picture()
    (tmp_path / "x.tar").write_bytes(header.tobuf() + data + bytes(-len(data) % 512))
    assert refusal(tmp_path / "x.tar") == "truncated_archive"


def test_two_tars_in_one_file_are_not_read_as_the_first(tmp_path: Path) -> None:
    first, second = tarred(tmp_path / "a", {"a.png": picture()}), tarred(tmp_path / "b", {"b.png": picture(1)})
    (tmp_path / "x.tar").write_bytes(first.read_bytes() + second.read_bytes())
    assert refusal(tmp_path / "x.tar") == "unsafe_archive"


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
class TestCompressed:
    def test_a_small_file_that_unpacks_to_a_large_one(self, tmp_path: Path, compress: object) -> None:
        content = tarred(tmp_path / "plain", {"zeros.bmp": bytes(70 * 2**20)}).read_bytes()
        (tmp_path / "x").write_bytes(compress(content))  # type: ignore[operator]
        assert refusal(tmp_path / "x") == "zip_bomb"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["plain", "x"]

    def test_more_than_any_set_of_images(
        self, tmp_path: Path, compress: object, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 2**20)
        (tmp_path / "x").write_bytes(compress(bytes(2**21)))  # type: ignore[operator]
        assert refusal(tmp_path / "x") == "zip_bomb"

    def test_a_file_that_is_cut_off(self, tmp_path: Path, compress: object) -> None:
        content = tarred(tmp_path / "plain", {f"{i}.png": picture(i) for i in range(9)}).read_bytes()
        (tmp_path / "x").write_bytes(compress(content)[:-20])  # type: ignore[operator]
        assert refusal(tmp_path / "x") == "truncated_archive"

    def test_something_else_than_a_tar(self, tmp_path: Path, compress: object) -> None:
        (tmp_path / "x").write_bytes(compress(picture()))  # type: ignore[operator]
        assert refusal(tmp_path / "x") == "not_an_archive"


def test_a_member_too_large_is_named_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        file.write(entry("large.bmp", MAX_MEMBER_BYTES + 512).tobuf())
        file.truncate(512 + MAX_MEMBER_BYTES + 512)
        file.seek(0, io.SEEK_END)
        file.write(entry("a.png", len(picture())).tobuf() + picture() + bytes(-len(picture()) % 512) + bytes(1024))
    (rejected,) = load_images(path, SIZE, minimum=1).rejected
    assert (rejected.name, rejected.reason) == ("large.bmp", "larger than 64 MiB")


def test_a_window_that_needs_gigabytes_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 2**30}]
    content = tarred(tmp_path / "plain", {"a.png": picture()}).read_bytes()
    (tmp_path / "x").write_bytes(lzma.compress(content, filters=filters))
    assert refusal(tmp_path / "x") == "truncated_archive"


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**6), st.integers(0, 255), st.sampled_from(["w", "w:gz", "w:xz"]))
def test_a_damaged_tar_is_refused_or_its_images_are_named(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int, mode: str
) -> None:
    path = tarred(tmp_path_factory.mktemp("tar") / "x", {"a.png": picture(), "b.png": picture(1)}, mode)
    data = bytearray(path.read_bytes())
    data[position % len(data)] = byte
    path.write_bytes(data)
    outcome: object
    try:
        images = load_images(path, SIZE, minimum=0)
        outcome = len(images) + len(images.rejected)
    except AuditError as error:
        outcome = error.problem.field
    assert outcome in (0, 1, 2, "images")
