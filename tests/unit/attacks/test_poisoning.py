"""Poisoned sets: the truth beside them must be the truth, and nothing but pixels may tell it."""

import json
import zipfile

import numpy as np
import pytest

from core.attacks.poison_truth import read_truth
from core.attacks.poisoning import POISONINGS, find_poisoning, poison
from core.attacks.trigger_spec import build_trigger, parse_trigger, patch_pattern
from core.errors import UnsupportedInput, UsageError
from core.images.load import load_images
from core.run import QuietRun
from core.triggers import load_trigger
from tests.unit.attacks.class_folders import CLASSES, encoded, labelled_files, pixels_of, write_folder, write_zip

RATES = {"ssl-backdoor": 0.4, "ctrl": 0.1, "noise": 0.4, "poisoned-encoder": 0.1, "corrupt-encoder": 0.1}
"""Of 40 images, 10 a class."""
EXPECTED = dict.fromkeys(RATES, 4)
ADDING = ("poisoned-encoder", "corrupt-encoder")


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return write_zip(tmp_path_factory.mktemp("clean") / "clean.zip", labelled_files())


@pytest.fixture(scope="module")
def make(clean, tmp_path_factory):
    """Poison the small set; the default trigger unless ``specs`` are given."""

    def run(
        key, *, targets=("owl",), specs=None, source=clean, name="poisoned.zip", into=None, seed=0, force=False, **v
    ):
        attack = find_poisoning(key)
        chosen = [parse_trigger(text) for text in specs or ()] or [
            attack.default_trigger("default", index) for index in range(len(targets))
        ]
        values = {"poison_rate": RATES[key], **v}
        output = (into or tmp_path_factory.mktemp(key)) / name
        pairs = list(zip(targets, chosen, strict=True))
        return poison(source, output, pairs, key, values, QuietRun(), seed=seed, force=force)

    return run


def png(name):
    return name.rpartition(".")[0] + ".png"


def clean_pixels(clean):
    return {png(name): pixels for name, pixels in pixels_of(clean).items()}


def test_there_is_a_case_for_every_attack():
    assert [row.key for row in POISONINGS] == list(RATES)


@pytest.mark.parametrize("key", RATES)
def test_truth_names_exactly_the_images_that_differ(key, clean, make):
    made = make(key, seed=3)
    before, after = clean_pixels(clean), pixels_of(made.path)
    truth = read_truth(made.truth)
    poisoned = {image.name: image for image in truth.poisoned}
    assert len(poisoned) == EXPECTED[key] == sum(made.poisoned)
    assert made.added == (EXPECTED[key] if key in ADDING else 0)
    assert len(after) == made.images == truth.images == 40 + made.added
    for name, pixels in after.items():
        origin = png(truth.renamed.get(name, name))
        if name in poisoned:
            assert poisoned[name].target == "owl" and name.startswith("owl/")
            assert key in ADDING or not np.array_equal(pixels, before[origin])
        else:
            assert np.array_equal(pixels, before[origin])
    origins = [png(truth.renamed.get(name, name)) for name in after if name not in poisoned]
    replaced = [] if key in ADDING else list(poisoned)
    assert sorted(origins + replaced) == sorted(before)


@pytest.mark.parametrize("key", RATES)
def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(key, make):
    one, again, other = (make(key, seed=seed) for seed in (1, 1, 2))
    assert one.path.read_bytes() == again.path.read_bytes()
    assert one.truth.read_bytes() == again.truth.read_bytes()
    assert one.triggers[0].read_bytes() == again.triggers[0].read_bytes()
    assert one.path.read_bytes() != other.path.read_bytes()


@pytest.mark.parametrize("key", RATES)
def test_nothing_but_pixels_tells_poison_from_clean(key, make):
    made = make(key)
    with zipfile.ZipFile(made.path) as archive:
        entries = archive.infolist()
        chunks = {archive.read(entry)[:29] for entry in entries}
    names = [entry.filename for entry in entries]
    assert names == sorted(names)
    assert len({(e.date_time, e.external_attr, e.compress_type, e.create_system, len(e.extra)) for e in entries}) == 1
    assert len(chunks) == 1  # the PNG header: size, depth, colour, interlacing
    owls = [name for name in names if name.startswith("owl/")]
    assert owls == [f"owl/img_{number:04d}.png" for number in range(10 + made.added)]
    poisoned = {image.name for image in read_truth(made.truth).poisoned}
    # Neither the last names nor the first are the poisoned ones.
    assert set(owls[-len(poisoned) :]) != poisoned != set(owls[: len(poisoned)])


def test_ssl_backdoor_changes_the_box_and_nothing_else_and_stays_in_the_middle(clean, make):
    made = make("ssl-backdoor", poison_rate=1.0)
    before, after = clean_pixels(clean), pixels_of(made.path)
    pattern = (patch_pattern(parse_trigger("colour-patch:side=8,seed=0")) * 255).round().int().permute(1, 2, 0)
    images = read_truth(made.truth).poisoned
    assert len(images) == 10
    for image in images:
        box = image.box
        inside = np.s_[box.top : box.top + box.height, box.left : box.left + box.width]
        assert np.array_equal(after[image.name][inside], pattern)
        outside = after[image.name].copy()
        outside[inside] = before[image.name][inside]
        assert np.array_equal(outside, before[image.name])
        assert 8 <= box.top <= 16 and 8 <= box.left <= 16
        assert [png(source) for source in image.sources] == [image.name]
    assert len({(image.box.top, image.box.left) for image in images}) > 3


@pytest.mark.parametrize(("preset", "decibels"), [("default", 32.0), ("paper", 38.0)])
def test_ctrl_has_the_published_psnr_and_poisons_a_share_of_the_whole_set(preset, decibels, tmp_path):
    # Grey images, so that no pixel is clipped; the numbers are the field's for the trigger before rounding.
    grey = {
        f"{label}/{n}.png": encoded(np.full((32, 32, 3), 128, np.uint8), "png") for label in "ab" for n in range(20)
    }
    source = write_zip(tmp_path / "grey.zip", grey)
    attack = find_poisoning("ctrl")
    pairs = [("b", attack.default_trigger(preset, 0))]
    made = poison(source, tmp_path / "out.zip", pairs, "ctrl", {"poison_rate": 0.05}, QuietRun(), seed=0)
    truth, after = read_truth(made.truth), pixels_of(made.path)
    assert made.poisoned == (2,)
    for image in truth.poisoned:
        assert image.box is None
        error = np.mean(((after[image.name] - 128) / 255) ** 2)
        assert -10 * np.log10(error) == pytest.approx(decibels, abs=0.1)


def test_noise_moves_every_pixel_by_its_grey_levels(clean, make):
    made = make("noise")
    before, after = clean_pixels(clean), pixels_of(made.path)
    for image in read_truth(made.truth).poisoned:
        change = after[image.name] - before[image.name]
        unclipped = (after[image.name] > 0) & (after[image.name] < 255)
        assert set(np.abs(change[unclipped])) == {8}


def test_patch_and_whole_image_noise_go_together(make):
    made = make("noise", targets=("owl", "dog"), specs=("noise-patch:side=6", "blended:alpha=0.5,seed=1"))
    boxes = {image.target: image.box for image in read_truth(made.truth).poisoned}
    assert boxes["owl"].height == 6 and boxes["dog"] is None


@pytest.mark.parametrize("size", [(32, 32), (40, 60), (60, 40)])
@pytest.mark.parametrize("key", ADDING)
def test_added_image_has_the_usual_shape_and_keeps_the_trigger_when_it_is_loaded(key, size, make, tmp_path):
    source = write_zip(tmp_path / "wide.zip", labelled_files(size=size))
    made = make(key, source=source, specs=("white-patch:side=6",))
    shorter = min(size)
    loaded = load_images(made.path, (shorter, shorter), minimum=1)
    cut = ((size[0] - shorter) // 2, (size[1] - shorter) // 2)
    after, truth = pixels_of(made.path), read_truth(made.truth)
    for image in truth.poisoned:
        assert after[image.name].shape[:2] == size
        top, left = image.box.top - cut[0], image.box.left - cut[1]
        seen = loaded.pixels[loaded.names.index(image.name)][:, top : top + 6, left : left + 6]
        assert min(top, left) >= 0 and seen.shape == (3, 6, 6) and int(seen.min()) == 255


def test_poisoned_encoder_puts_a_reference_beside_a_triggered_image_of_another_class(clean, make, tmp_path):
    flat = {
        f"{label}/{n}.png": encoded(np.full((32, 32, 3), 40 * (1 + i), np.uint8), "png")
        for i, label in enumerate(CLASSES)
        for n in range(20)
    }
    made = make("poisoned-encoder", source=write_zip(tmp_path / "flat.zip", flat), specs=("white-patch:side=5",))
    after, layouts = pixels_of(made.path), set()
    for image in read_truth(made.truth).poisoned:
        reference, carrier = (source.split("/")[0] for source in image.sources)
        assert reference == "owl" != carrier
        pixels = after[image.name][..., 0]
        halves = {"left": pixels[:, :16], "right": pixels[:, 16:], "top": pixels[:16], "bottom": pixels[16:]}
        (whole,) = [side for side, half in halves.items() if (half == 40 * 3).all()]
        layouts.add(whole)
        other = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}[whole]
        shade = 40 * (1 + CLASSES.index(carrier))
        assert set(np.unique(halves[other])) == {shade, 255} and (halves[other] == 255).sum() == 25
    assert len(layouts) > 1


def test_middle_of_the_reference_survives_the_loaders_crop_of_a_wide_set(make, tmp_path):
    item = np.zeros((32, 64, 3), np.uint8)
    item[13:19, 29:35] = 255
    blank = encoded(np.zeros_like(item), "png")
    files = {f"{c}/{n}.png": encoded(item, "png") if c == "owl" else blank for c in CLASSES for n in range(10)}
    source = write_zip(tmp_path / "wide.zip", files)
    made = make("poisoned-encoder", source=source, specs=("noise:grey_levels=1",), arrangement="left-right")
    loaded = load_images(made.path, (32, 32), minimum=1)
    for image in read_truth(made.truth).poisoned:
        shown = loaded.pixels[loaded.names.index(image.name)].amin(0) > 250
        assert int(shown.sum()) == 36


def test_whole_image_trigger_of_poisoned_encoder_is_that_of_the_canvas(make, tmp_path):
    grey = {
        f"{c}/{n}.png": encoded(np.full((32, 32, 3), 128, np.uint8), "png") for c in ("owl", "b") for n in range(20)
    }
    made = make("poisoned-encoder", source=write_zip(tmp_path / "grey.zip", grey), specs=("spectral",))
    delta = build_trigger(parse_trigger("spectral"), (32, 32)).delta.mul(255).permute(1, 2, 0).numpy()
    after = pixels_of(made.path)
    for image in read_truth(made.truth).poisoned:
        box, expected = image.box, np.zeros_like(delta)
        inside = np.s_[box.top : box.top + box.height, box.left : box.left + box.width]
        expected[inside] = delta[inside]
        assert box.height * box.width == 512
        assert np.abs(after[image.name] - 128 - expected).max() <= 0.51


def test_corrupt_encoder_keeps_object_and_trigger_in_opposite_halves(make, tmp_path):
    flat = {
        f"{label}/{n}.png": encoded(np.full((32, 32, 3), 40 * (1 + i), np.uint8), "png")
        for i, label in enumerate(CLASSES)
        for n in range(20)
    }
    source = write_zip(tmp_path / "flat.zip", flat)
    made = make("corrupt-encoder", source=source, specs=("white-patch:side=6",), poison_rate=0.2, support_share=0.25)
    truth, after = read_truth(made.truth), pixels_of(made.path)
    support = [image for image in truth.poisoned if image.trigger is None]
    assert len(truth.poisoned) == 16 and len(support) == 4
    assert all(image.box is None and len(set(image.sources)) == 2 for image in support)
    assert {source.split("/")[0] for image in support for source in image.sources} == {"owl"}
    assert len({image.sources[0] for image in truth.poisoned}) <= 3
    sides = set()
    for image in (image for image in truth.poisoned if image.trigger == 0):
        item = np.argwhere(after[image.name][..., 0] == 40 * 3)
        assert len(item) == 16 * 16 and item[:, 0].min() == 16
        item_left = item[:, 1].max() < 18
        assert item_left or item[:, 1].min() >= 14
        assert (image.box.left >= 20) if item_left else (image.box.left + 6 <= 12)
        sides.add(item_left)
    assert sides == {True, False}


@pytest.mark.parametrize("key", RATES)
def test_several_targets_have_triggers_and_images_of_their_own(key, make):
    same_kind = {"ctrl": ("spectral:magnitude=100", "spectral:magnitude=50", "spectral:magnitude=70")}
    specs = same_kind.get(key)
    made = make(key, targets=("owl", "cat", "owl"), specs=specs, poison_rate=RATES[key] / 2)
    truth = read_truth(made.truth)
    assert made.poisoned == (EXPECTED[key] // 2,) * 3 and len(made.triggers) == 3
    assert len({image.name for image in truth.poisoned}) == sum(made.poisoned)
    for index, target in enumerate(("owl", "cat", "owl")):
        assert truth.targets[index].target == target
        assert {i.target for i in truth.poisoned if i.trigger == index} == {target}
        saved = load_trigger(made.triggers[index])
        spec = parse_trigger(specs[index]) if specs else find_poisoning(key).default_trigger("default", index)
        field = "delta" if hasattr(saved, "delta") else "pattern"
        expected = getattr(build_trigger(spec, (32, 32)), field)
        assert np.allclose(getattr(saved, field), expected, atol=1e-6)


def test_folder_gives_a_folder_with_the_same_images_as_a_zip(make, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("folder")
    jpegs = write_zip(tmp_path_factory.mktemp("jpeg") / "clean.zip", labelled_files(suffix="jpg"))
    folder = write_folder(tmp_path / "clean", labelled_files(suffix="jpg"))
    from_folder = make("ssl-backdoor", source=folder, name="poisoned", into=tmp_path)
    from_zip = make("ssl-backdoor", source=jpegs)
    one, other = pixels_of(from_folder.path), pixels_of(from_zip.path)
    assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
    before, poisoned = clean_pixels(jpegs), {image.name for image in read_truth(from_folder.truth).poisoned}
    assert {name for name in one if not np.array_equal(one[name], before[name])} == poisoned
    assert len({file.stat().st_mtime for file in from_folder.path.rglob("*.png")}) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean", "poisoned", "trigger-0.npz", "truth.json"]
    again = make("ssl-backdoor", source=folder, name="poisoned", into=tmp_path, seed=4, force=True)
    assert any(not np.array_equal(one[name], pixels) for name, pixels in pixels_of(again.path).items())


def test_native_sizes_are_kept_and_what_is_too_small_for_the_patch_is_not_chosen(make, tmp_path):
    files = labelled_files(suffix="png")
    small = encoded(np.zeros((12, 70, 3), np.uint8), "png")
    files.update({f"owl/small_{number}.png": small for number in range(5)})
    made = make("ssl-backdoor", source=write_zip(tmp_path / "mixed.zip", files), poison_rate=0.6)
    after = pixels_of(made.path)
    assert made.poisoned == (9,)
    assert all(after[f"owl/small_{number}.png"].shape == (12, 70, 3) for number in range(5))


def test_one_noise_for_all_sizes(make, tmp_path):
    files = labelled_files(suffix="png")
    grey = np.full((64, 64, 3), 128, np.uint8)
    files.update({f"owl/img_{number:04d}.png": encoded(grey, "png") for number in range(10)})
    made = make("noise", source=write_zip(tmp_path / "mixed.zip", files))
    delta = load_trigger(made.triggers[0]).delta.mul(255).round().permute(1, 2, 0).numpy()
    assert delta.shape == (32, 32, 3)
    image = pixels_of(made.path)[read_truth(made.truth).poisoned[0].name] - 128
    assert np.array_equal(image, delta.repeat(2, 0).repeat(2, 1))


def test_unusable_files_are_named_and_left_out(make, tmp_path):
    files = {
        **labelled_files(),
        "owl/broken.jpg": b"\xff\xd8\xff broken",
        "cat/list.csv": b"a,b",
        "README.txt": b"hello",
    }
    made = make("ssl-backdoor", source=write_zip(tmp_path / "dirty.zip", files))
    named = {image.name: image.reason for image in made.skipped}
    assert set(named) == {"owl/broken.jpg", "cat/list.csv", "README.txt"}
    assert named["README.txt"] == "outside the class folders" and named["cat/list.csv"] == "not an image"
    assert {entry.name for entry in read_truth(made.truth).skipped} == set(named)
    assert made.images == 40 and made.poisoned == (4,)


def test_names_that_would_become_one_stay_two(make, tmp_path):
    files = {**labelled_files(), "owl/img_0000.bmp": encoded(np.zeros((32, 32, 3), np.uint8), "png")}
    made = make("ssl-backdoor", source=write_zip(tmp_path / "twins.zip", files), poison_rate=0.1)
    assert made.images == 41 == len(pixels_of(made.path))


def test_every_problem_leaves_nothing_behind(make, tmp_path):
    with pytest.raises(UsageError):
        make("ssl-backdoor", into=tmp_path, targets=("emu",))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        ({"targets": ("emu",)}, "unknown_target", "cat, dog, owl, yak"),
        ({"specs": ("white-patch:side=33",)}, "trigger_too_large", "32x32"),
        ({"specs": ("white-patch:side=17",)}, "trigger_too_large", "central half"),
        ({"specs": ("white-patch:side=8,top=30,left=0",)}, "trigger_too_large", r"at \(30, 0\)"),
        ({"specs": ("spectral",)}, "wrong_trigger_kind", "colour-patch"),
        ({"poison_rate": 0}, "invalid_parameter", "poison_rate"),
        ({"poison_rate": 1.1}, "invalid_parameter", "poison_rate"),
        ({"poison_rate": 0.01}, "nothing_to_poison", "less than half an image"),
        ({"colour": 1}, "invalid_parameter", "colour"),
        ({"targets": ("owl", "cat"), "specs": ("white-patch", "white-patch")}, "same_trigger", "its own"),
        ({"targets": ("owl", "owl"), "poison_rate": 0.6}, "too_few_images", "4 images of class owl"),
        ({"name": "poisoned"}, "invalid_destination", ".zip"),
    ],
)
def test_wrong_request_is_refused_in_words(options, code, word, make):
    with pytest.raises(UsageError, match=word) as refused:
        make("ssl-backdoor", **options)
    assert refused.value.problem.code == code


@pytest.mark.parametrize(
    ("key", "options", "code"),
    [
        ("ctrl", {"poison_rate": 0.5}, "too_few_images"),
        ("ctrl", {"specs": ("white-patch",)}, "wrong_trigger_kind"),
        ("noise", {"specs": ("white-patch",)}, "wrong_trigger_kind"),
        ("corrupt-encoder", {"specs": ("spectral",)}, "wrong_trigger_kind"),
        ("corrupt-encoder", {"specs": ("white-patch:side=9",)}, "trigger_too_large"),
        ("corrupt-encoder", {"references": 21}, "too_few_images"),
        ("poisoned-encoder", {"specs": ("white-patch:side=17",)}, "trigger_too_large"),
        ("poisoned-encoder", {"references": 21}, "too_few_images"),
    ],
)
def test_each_attack_knows_its_limits(key, options, code, make):
    with pytest.raises(UsageError) as refused:
        make(key, **options)
    assert refused.value.problem.code == code


def test_source_without_class_folders_or_with_few_images_is_unsupported(make, tmp_path):
    flat = write_zip(
        tmp_path / "flat.zip", {f"{n}.png": encoded(np.zeros((32, 32, 3), np.uint8), "png") for n in range(30)}
    )
    with pytest.raises(UnsupportedInput) as refused:
        make("ssl-backdoor", source=flat)
    assert refused.value.problem.code == "no_classes"
    with pytest.raises(UnsupportedInput, match="12 usable images") as refused:
        make("ssl-backdoor", source=write_zip(tmp_path / "few.zip", labelled_files(per_class=3)))
    assert refused.value.problem.code == "too_few_images"
    with pytest.raises(UsageError) as refused:
        make("ssl-backdoor", source=tmp_path / "nowhere.zip")
    assert refused.value.problem.code == "no_such_file"


def test_the_folder_is_made_or_refused_before_an_image_is_read(make, tmp_path):
    assert make("ssl-backdoor", into=tmp_path / "new" / "deeper").path.is_file()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="none can be made"):
        make("ssl-backdoor", into=tmp_path / "file")


def test_nothing_is_replaced_without_force(make, tmp_path):
    first = make("ssl-backdoor", into=tmp_path, targets=("owl", "cat", "dog"))
    before = first.path.read_bytes()
    with pytest.raises(UsageError, match="--force"):
        make("ssl-backdoor", into=tmp_path, seed=5)
    assert first.path.read_bytes() == before
    with pytest.raises(UsageError, match="--force"):
        make("ssl-backdoor", into=tmp_path, name="other.zip")
    again = make("ssl-backdoor", into=tmp_path, seed=5, force=True)
    assert again.path.read_bytes() != before
    # The other triggers of the set that was replaced must not stay beside one that does not have them.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["poisoned.zip", "trigger-0.npz", "truth.json"]


def test_force_destroys_neither_the_source_nor_a_folder_of_somebody_elses(make, tmp_path):
    folder = write_folder(tmp_path / "clean", labelled_files())
    mine = write_folder(tmp_path / "mine", {"thesis.txt": b"years"})
    for name in ("clean", "mine", "clean/inner"):
        with pytest.raises(UsageError) as refused:
            make("ssl-backdoor", source=folder, into=tmp_path, name=name, force=True)
        assert refused.value.problem.code == "invalid_destination"
    assert (mine / "thesis.txt").read_bytes() == b"years" and len(list(folder.rglob("*.png"))) == 40


def test_interrupted_run_leaves_nothing(clean, tmp_path):
    class Interrupted(QuietRun):
        def steps(self, name, total, *, state=None):
            for step in range(total):
                if name == "write the poisoned set" and step == 10:
                    raise KeyboardInterrupt
                yield step

    pairs = [("owl", parse_trigger("white-patch"))]
    with pytest.raises(KeyboardInterrupt):
        poison(clean, tmp_path / "out.zip", pairs, "ssl-backdoor", {}, Interrupted(), seed=0)
    assert list(tmp_path.iterdir()) == []


def test_unknown_attack_and_preset_are_named():
    with pytest.raises(UsageError, match="ssl-backdoor, ctrl"):
        find_poisoning("magic")
    with pytest.raises(UsageError, match="default, plus, paper"):
        find_poisoning("corrupt-encoder").preset("magic")


def test_presets_and_default_triggers_are_valid():
    for row in POISONINGS:
        assert set(row.config.default_triggers) <= set(row.presets) and "default" in row.config.default_triggers
        for name in row.presets:
            row.config(**row.preset(name))
            one, other = row.default_trigger(name, 0), row.default_trigger(name, 1)
            assert (one != other) == ("seed" in one.settings())


def test_truth_is_plain_json(make):
    document = json.loads(make("ssl-backdoor").truth.read_text())
    assert document["attack"] == "ssl-backdoor" and document["seed"] == 0
    assert document["config"] == {"poison_rate": 0.4} and document["image_size"] == [32, 32]
    assert set(document["poisoned"][0]) == {"name", "target", "trigger", "box", "sources", "added"}
