"""Everything in a recipe that can be checked before hours are spent on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.attacks.backdooring import find_backdooring
from core.attacks.poison_plan import require_kind
from core.attacks.poisoning import find_poisoning
from core.attacks.trigger_spec import build_trigger, parse_trigger
from core.config import MethodConfig, parse_config
from core.encoders.architectures import build_backbone
from core.encoders.card import EncoderCard
from core.errors import AuditError, UnsupportedInput, UsageError
from core.images.labelled import class_folders, require_class
from core.images.load import image_names, open_members
from core.training.trainers import find_trainer
from core.zoo.recipe import EncoderRecipe, MethodRecipe
from core.zoo.sources import find_set, targets_of
from core.zoo.stranger import card_of
from core.zoo.workshop import Workshop


def check_recipe(shop: Workshop) -> None:
    """Look at every encoder's architecture, methods, parameters, classes and triggers; nothing is trained.

    Raises:
        AuditError: the first thing that does not fit, named by encoder.
    """
    classes = {name: _classes(shop, name) for name in {entry.data for entry in shop.recipe.encoders}}
    cards: dict[str, EncoderCard] = {}
    for entry in shop.recipe.encoders:
        try:
            cards[entry.name] = cards[entry.base] if entry.base is not None else _network(entry)
            _check(entry, cards[entry.name], classes[entry.data])
        except AuditError as error:
            found = error.problem
            raise UnsupportedInput(
                found.code,
                field=f"{entry.name}: {found.field}",
                found=found.found,
                expected=found.expected,
                action=found.action,
            ) from error


def configured(
    config: type[MethodConfig], presets: Mapping[str, Mapping[str, Any]], chosen: MethodRecipe, path: str
) -> Any:
    """The configuration that ``chosen`` describes: its preset, and what differs from that.

    Raises:
        UsageError: no such preset, or a value that does not fit.
    """
    if chosen.preset not in presets:
        raise UsageError(
            "unknown_preset",
            field=f"{path}.preset",
            found=f"'{chosen.preset}'",
            expected=f"one of {', '.join(presets)}",
            action="Choose one of these.",
        )
    return parse_config(config, {**presets[chosen.preset], **chosen.values}, path=path)


def _check(entry: EncoderRecipe, card: EncoderCard, classes: tuple[str, ...] | None) -> None:
    labels = []
    if entry.training is not None and entry.base is None:
        trainer = find_trainer(entry.training.method)
        configured(trainer.config, trainer.presets, entry.training, "training")
    if entry.poisoning is not None:
        poisoning = find_poisoning(entry.poisoning.method)
        configured(poisoning.config, poisoning.presets, entry.poisoning, "poisoning")
        targets = targets_of(entry.poisoning)
        require_kind([spec for _, spec in targets], poisoning.config.trigger_kinds, poisoning.title)
        for label, spec in targets:
            build_trigger(spec, card.image_size)
            labels.append(label)
    if entry.backdoor is not None:
        attack = find_backdooring(entry.backdoor.method)
        configured(attack.config, attack.presets, entry.backdoor, "backdoor")
        build_trigger(parse_trigger(entry.backdoor.trigger), card.image_size)
        labels.append(entry.backdoor.label)
    for label in labels if classes is not None else []:
        assert classes is not None
        require_class(label, classes)


def _network(entry: EncoderRecipe) -> EncoderCard:
    if entry.weights is not None:
        card = card_of(entry.weights)
    else:
        assert entry.card is not None
        card = entry.card.card()
    build_backbone(card, device="meta")
    return card


def _classes(shop: Workshop, name: str) -> tuple[str, ...] | None:
    """The class folders of a data set; None of one of torchvision's, which is only read when it is built."""
    recipe = shop.recipe.data[name]
    if recipe.torchvision is not None:
        return None
    paths = find_set(recipe, shop.data, shop.work)
    with open_members(paths.train) as members:
        return tuple(sorted(set(class_folders(image_names(members), paths.train.name).values())))
