"""torchvision's data sets as archives of class folders."""

import inspect
import io
import zipfile

import pytest
from PIL import Image
from torchvision import datasets

from core.errors import UsageError
from core.images.torchvision_sets import SETS, export_set


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("train", [True, False])
def test_every_set_is_torchvisions_and_takes_these_words(name, train):
    inspect.signature(getattr(datasets, name)).bind("root", **SETS[name](train))


@pytest.mark.parametrize("train", [True, False])
def test_pixels_are_kept_in_class_folders(tmp_path, monkeypatch, train):
    class Few:
        classes = ("cat", "and/or")

        def __init__(self, root, *, split):
            assert root == tmp_path
            self.images = [Image.new("RGB", (4, 4), (i, 40, 200 if split == "train" else 0)) for i in range(3)]

        def __len__(self):
            return len(self.images)

        def __getitem__(self, index):
            return self.images[index], index % 2

    monkeypatch.setattr(datasets, "STL10", Few)
    export_set("STL10", tmp_path, tmp_path / "deep/set.zip", train=train)
    with zipfile.ZipFile(tmp_path / "deep/set.zip") as archive:
        assert archive.namelist() == ["cat/000000.png", "and-or/000001.png", "cat/000002.png"]
        last = Image.open(io.BytesIO(archive.read("cat/000002.png")))
        assert last.getpixel((1, 1)) == (2, 40, 200 if train else 0)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["set.zip"]


def test_a_set_that_is_not_there_is_not_downloaded(tmp_path):
    with pytest.raises(UsageError) as caught:
        export_set("CIFAR10", tmp_path, tmp_path / "set.zip", train=True)
    assert caught.value.problem.code == "no_such_dataset" and not list(tmp_path.iterdir())


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(UsageError) as caught:
        export_set("MNIST", tmp_path, tmp_path / "set.zip", train=True)
    assert caught.value.problem.code == "unknown_dataset" and "GTSRB" in caught.value.problem.expected
