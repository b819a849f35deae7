"""Files made to break or to lie to whoever opens them. None may run anything, none may exhaust the machine."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save

from core.encoders.convert import convert
from core.encoders.inert import InertUnpickler, Refused
from core.encoders.inspect_pickle import check_pickle
from core.encoders.inspect_safetensors import inspect_safetensors
from core.encoders.load import load_encoder
from core.errors import UnsupportedInput
from tests.unit.encoders.weights import CARD


def refusal(path: Path) -> tuple[str, str]:
    with pytest.raises(UnsupportedInput) as caught:
        load_encoder(path, card=CARD)
    problem = caught.value.problem
    assert problem.sentence().isprintable()
    return problem.code, problem.found


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self._target}",)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_code_in_a_bare_pickle_is_named_and_not_run(tmp_path: Path, protocol: int) -> None:
    path, target = tmp_path / "evil.pkl", tmp_path / "ran"
    path.write_bytes(pickle.dumps({"conv1.weight": Payload(target)}, protocol=protocol))
    code, found = refusal(path)
    assert code == "unsafe_pickle"
    assert f"{os.system.__module__}.system" in found
    assert not target.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_named_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path, target = tmp_path / "evil.pt", tmp_path / "ran"
    torch.save({"w": torch.ones(2), "x": Payload(target)}, path, _use_new_zipfile_serialization=zipped)
    code, found = refusal(path)
    assert code == "unsafe_pickle"
    assert f"{os.system.__module__}.system" in found
    assert not target.exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins.eval",
        "builtins.exec",
        "builtins.__import__",
        "os.system",
        "posix.system",
        "subprocess.Popen",
        "runpy._run_code",
        "webbrowser.open",
        "torch.hub.load",
        "torch.fx.graph_module.reduce_graph_module",
        "torch.storage._load_from_bytes",
        "operator.attrgetter",
        "types.CodeType",
        "harmless.Thing.__class__",
        "__builtin__.apply",
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_names_that_only_programs_need(name: str, protocol: int) -> None:
    module, _, attribute = name.rpartition(".")
    if protocol == 2:
        asks = f"c{module}\n{attribute}\n".encode()
    else:
        texts = (bytes([0x8C, len(text)]) + text.encode() + b"\x94" for text in (module, attribute))
        asks = b"".join(texts) + b"\x93"
    with pytest.raises(UnsupportedInput, match=re.escape(name)) as caught:
        check_pickle(io.BytesIO(b"\x80" + bytes([protocol]) + asks + b"."))
    assert caught.value.problem.code == "unsafe_pickle"
    with pytest.raises(Refused, match=re.escape(name)):  # the reader behind the gate says the same
        InertUnpickler(io.BytesIO(b"\x80" + bytes([protocol]) + asks + b".")).load()


def test_a_name_put_together_from_the_memo_is_read_exactly() -> None:
    """The last two texts before STACK_GLOBAL are harmless; what it imports lies deeper in the stack."""
    texts = b"".join(b"\x8c" + bytes([len(text)]) + text + b"\x94" for text in (b"posix", b"system", b"date", b"Date"))
    program = b"\x80\x04" + texts + b"00" + b"\x93."
    with pytest.raises(UnsupportedInput, match=r"posix\.system"):
        check_pickle(io.BytesIO(program))
    recalled = b"\x80\x04" + texts + b"0000" + b"h\x00h\x01" + b"\x93."
    with pytest.raises(UnsupportedInput, match=r"posix\.system"):
        check_pickle(io.BytesIO(recalled))


def test_an_attribute_of_anything_but_a_skipped_class_is_refused(tmp_path: Path) -> None:
    fetch = b"\x80\x02cbuiltins\ngetattr\n" + b"ccollections\nOrderedDict\n" + b"X\x08\0\0\0__init__\x86R."
    check_pickle(io.BytesIO(fetch))
    with pytest.raises(Refused, match=r"builtins\.getattr"):
        InertUnpickler(io.BytesIO(fetch)).load()


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("empty.safetensors", b"", "empty_file"),
        ("empty.pt", b"", "empty_file"),
        ("short.safetensors", b"\x10\0\0", "truncated_safetensors"),
        ("text.safetensors", b"these are not the weights you are looking for", "truncated_safetensors"),
        ("text.pt", b"these are not the weights you are looking for", "unknown_format"),
        ("model.onnx", b"\x08\x07\x12\x07pytorch", "unknown_format"),
        ("model.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 64, "unknown_format"),
        ("weights.npz", b"PK\x05\x06" + b"\0" * 18, "unknown_format"),
        ("cut.pt", b"PK\x03\x04" + b"\0" * 40, "unsafe_archive"),
        ("plain.pkl", pickle.dumps({"a": 1}, protocol=2), "unknown_format"),
    ],
)
def test_files_that_are_no_encoder(tmp_path: Path, name: str, content: bytes, code: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert refusal(path)[0] == code


@pytest.mark.parametrize(
    ("name", "content", "found", "action"),
    [
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "LFS", "lfs pull"),
        ("model.pth", b"version https://git-lfs.github.com/spec/v1\n", "LFS", "lfs pull"),
        ("model.pth", b"\n<!DOCTYPE html><html>sign in</html>", "HTML page", "download link"),
        ("model.safetensors", b"<html>", "HTML page", "download link"),
        ("model.bin", b'<?xml version="1.0"?><Error>AccessDenied</Error>', "XML answer", "download link"),
        ("model.safetensors", b'{"metadata": {}, "weight_map": {}}', "JSON", "folder"),
        ("model.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 64, "HDF5", "save_file"),
        ("model.onnx", b"\x08\x07\x12\x07pytorch", "ONNX", "save_file"),
        ("model.pth", b"\x1f\x8b" + b"\0" * 64, "gzip", "Unpack"),
    ],
)
def test_what_people_have_in_place_of_the_weights(
    tmp_path: Path, name: str, content: bytes, found: str, action: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnsupportedInput) as caught:
        load_encoder(path, card=CARD)
    problem = caught.value.problem
    assert problem.code == "unknown_format"
    assert found in problem.found
    assert action in problem.action


def checkpoint_bytes(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_a_checkpoint_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = checkpoint_bytes({"a": torch.ones(100)})
    path = tmp_path / "cut.pt"
    for length in range(4, len(whole) - 1, len(whole) // 12):
        path.write_bytes(whole[:length])
        assert refusal(path)[0] in ("unsafe_archive", "unknown_format")


def test_a_zip_of_files_of_weights_names_them(tmp_path: Path) -> None:
    path = tmp_path / "both.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("run/a.pt", b"weights")
        archive.writestr("run/b.safetensors", b"weights")
    with pytest.raises(UnsupportedInput, match=r"in which lie run/a\.pt, run/b\.safetensors\..* Unpack it") as caught:
        load_encoder(path)
    assert caught.value.problem.code == "unknown_format"


def rezipped(data: bytes, **options: Any) -> bytes:
    """The same checkpoint in a zip of another kind."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w", **options) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return buffer.getvalue()


def test_compressed_storage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    path.write_bytes(rezipped(checkpoint_bytes({"a": torch.zeros(2**20)}), compression=zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 2**20
    assert refusal(path) == ("unsafe_archive", "the compressed entry archive/data.pkl")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"MZ" + data,
        lambda data: data + b"trailing",
        lambda data: data.replace(b"archive/data.pkl", b"archive/DATA.pkl", 1),
    ],
)
def test_two_readings_of_one_zip_are_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "polyglot.pt"
    path.write_bytes(damage(checkpoint_bytes({"a": torch.ones(4)})))
    assert refusal(path)[0] in ("unsafe_archive", "unknown_format")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("extra", ["archive/data.pkl", "archive/../x", "other/x", "archive/ARCHIVE\\x"])
def test_strange_entries_are_refused(tmp_path: Path, extra: str) -> None:
    buffer = io.BytesIO(checkpoint_bytes({"a": torch.ones(4)}))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(extra, b"\x80\x02}.")
    path = tmp_path / "extra.pt"
    path.write_bytes(buffer.getvalue())
    assert refusal(path)[0] == "unsafe_archive"


def nested_lists(depth: int) -> Any:
    """Ten references to the same list at each level: 10^depth leaves in a few kilobytes."""
    level: Any = [1] * 10
    for _ in range(depth):
        level = [level] * 10
    return level


@pytest.mark.parametrize("content", [{"a": torch.eye(3).to_sparse()}, {"a": torch.empty(10**15, device="meta")}])
def test_tensors_without_plain_numbers_are_refused_unopened(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "sparse.pt"
    torch.save(content, path)
    assert refusal(path)[0] == "unsafe_pickle"


def test_a_tensor_of_forty_gigabytes_in_a_kilobyte(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    torch.save({"conv1.weight": torch.ones(1).expand(10**10)}, path)
    assert path.stat().st_size < 4096
    code, found = refusal(path)
    assert code == "unsafe_checkpoint"
    assert "conv1.weight claims 40000000000 bytes" in found


def test_the_process_that_opens_a_checkpoint_knows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT_URL", "S3_SECRET_KEY", "AWS_SECRET_ACCESS_KEY")
    for name in secrets:
        monkeypatch.setenv(name, "hunter2")
    seen, interpreter = tmp_path / "seen", tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\nenv > '{seen}'\nexit 1\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    torch.save({"conv1.weight": torch.ones(1)}, tmp_path / "weights.pt")
    refusal(tmp_path / "weights.pt")
    environment = seen.read_text()
    assert "PYTHONPATH=" in environment
    assert "hunter2" not in environment
    assert not any(name in environment for name in secrets)


def converted(content: Any, tmp_path: Path) -> tuple[dict[str, Any], list[list[str]]]:
    """What the child process does, in this one: tensors by number, and their paths."""
    data = checkpoint_bytes(content)
    convert(io.BytesIO(data), str(tmp_path / "out"), len(data))
    with safe_open(tmp_path / "out", "pt") as file:
        paths = json.loads(file.metadata()["paths"])
        return {key: file.get_tensor(key) for key in file.keys()}, paths  # noqa: SIM118 - not a dict


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({f"a{i}": torch.ones(2**10)[:1].expand(2**11) for i in range(2)}, "unsafe_checkpoint"),
        ({f"v{i}": view for i, view in enumerate([torch.ones(2**16)] * 200)}, "unsafe_checkpoint"),
        ({"lists": nested_lists(30), "a": 1}, "unsafe_checkpoint"),
        ({"\x1b[31m\r\nFAKE LOG": torch.ones(3)}, "no_tensors"),
        ([torch.ones(3)], "no_tensors"),
        ({}, "no_tensors"),
    ],
)
def test_checkpoints_that_are_more_than_their_bytes(tmp_path: Path, content: Any, code: str) -> None:
    with pytest.raises(Refused) as caught:
        converted(content, tmp_path)
    assert caught.value.code == code
    assert str(caught.value).isprintable()
    assert not (tmp_path / "out").exists()


def test_a_cycle_ends_and_views_become_plain_numbers(tmp_path: Path) -> None:
    whole = torch.arange(6.0).view(2, 3)
    cycle: dict[str, Any] = {"a": whole, "b": whole.t()}
    cycle["self"] = cycle
    tensors, paths = converted(cycle, tmp_path)
    assert paths == [["a"], ["b"]]
    assert torch.equal(tensors["1"], whole.t())


def header(text: str, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text.encode() + body


F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (header(json.dumps({"a": F32}), b"\0" * 3), "truncated_safetensors"),
        (header(json.dumps({"a": F32}), b"\0" * 5), "unsafe_safetensors"),
        (struct.pack("<Q", 10**6) + b'{"a":', "truncated_safetensors"),
        (struct.pack("<Q", 10**9) + b'{"a":', "unsafe_safetensors"),
        (header('{"a": ' + json.dumps(F32) + ', "a": ' + json.dumps(F32) + "}", b"\0" * 4), "unsafe_safetensors"),
        (header(json.dumps({"a": F32, "b": F32}), b"\0" * 4), "unsafe_safetensors"),
        (header(json.dumps({"a": {**F32, "data_offsets": [4, 8]}}), b"\0" * 8), "unsafe_safetensors"),
        (header(json.dumps({"a": {**F32, "shape": [2]}}), b"\0" * 4), "unsafe_safetensors"),
        (header(json.dumps({"a": {**F32, "shape": [-1]}}), b"\0" * 4), "unsafe_safetensors"),
        (header(json.dumps({"a": {**F32, "dtype": "F8_E4M3"}}), b"\0" * 4), "unsafe_safetensors"),
        (header(json.dumps({"a\r\nFAKE LOG": F32}), b"\0" * 4), "unsafe_safetensors"),
        (header(json.dumps({"a": 3})), "unsafe_safetensors"),
        (header("{" + "[" * 100_000), "unsafe_safetensors"),
        (header(json.dumps({"__metadata__": {"a": 3}})), "unsafe_safetensors"),
        (
            header(json.dumps({f"t{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(20_001)})),
            "unsafe_safetensors",
        ),
    ],
)
def test_safetensors_headers(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert refusal(path)[0] == code


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_a_damaged_safetensors_is_read_rightly_or_refused(position: int, byte: int, cut: bool) -> None:
    whole = bytearray(save({"a": torch.ones(3, 2), "b": torch.zeros(2, dtype=torch.int64)}))
    position %= len(whole)
    if cut:
        whole = whole[:position]
    else:
        whole[position] = byte
    code, tensors = None, None
    try:
        tensors = len(inspect_safetensors(io.BytesIO(whole), len(whole)).shapes)
    except UnsupportedInput as error:
        code = error.problem.code
    assert code in (None, "truncated_safetensors", "unsafe_safetensors")
    assert tensors in (None, 2)
    assert not (cut and code is None)
