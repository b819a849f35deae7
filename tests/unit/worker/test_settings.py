"""The worker's settings from the environment."""

from __future__ import annotations

import pytest

from api.storage.settings import SettingsError
from worker.settings import load_worker_settings


def test_threads_are_shared_among_slots_and_one_core_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(2)), raising=False)
    assert load_worker_settings().threads == 1
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert load_worker_settings().threads == 7
    monkeypatch.setenv("WORKER_SLOTS", "3")
    assert load_worker_settings().threads == 2
    monkeypatch.setenv("CPU_THREADS", "5")
    assert load_worker_settings().threads == 5


def test_memory_is_a_size_with_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_worker_settings().worker_memory is None
    monkeypatch.setenv("WORKER_MEMORY", "3GiB")
    assert load_worker_settings().worker_memory == 3 * 2**30


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKER_DEVICE", "tpu"),
        ("WORKER_MEMORY", "much"),
        ("WORKER_TIME_LIMIT", "2"),
        ("LEASE_SECONDS", "0"),
        ("WORKER_SLOTS", "x"),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name} "):
        load_worker_settings()


def test_a_time_limit_has_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_worker_settings().worker_time_limit is None
    monkeypatch.setenv("WORKER_TIME_LIMIT", "1.5h")
    assert load_worker_settings().worker_time_limit == 5400


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1"])
def test_devices(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setenv("WORKER_DEVICE", device)
    assert load_worker_settings().worker_device == device
