"""The network of a card: torchvision's or timm's, its head replaced by the identity, or a tower of open_clip; its
overrides applied.

Nothing is ever downloaded: the weights are the user's file.

torchvision and timm are imported where a network is asked for. They take five seconds of processor time, since
torchvision brings torch's compiler along, and most processes build no network: the API, the list of methods, a test.
"""

from __future__ import annotations

import difflib
import inspect
import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from core.encoders import open_clip_models
from core.encoders.card import ConvolutionChange, EncoderCard
from core.encoders.small_maps import with_small_maps
from core.encoders.tower_rows import ROWS, is_tower
from core.encoders.transformers_models import Tower, build_tower, require_size
from core.errors import UnsupportedInput

_PATCH_EMBEDDING = "patch_embed.proj"
_TRANSFORM_INPUT = ("googlenet", "inception_v3")
"""torchvision's published weights of these are built with ``transform_input``: they take ImageNet's normalisation back
and normalise by .5 and .5, which is what the numbers on pixels in [0, 1] come to."""
_HEADS = ("fc", "classifier", "heads", "head", "AuxLogits", "aux1", "aux2")


@cache
def known_architectures() -> tuple[str, ...]:
    """Every name a card may give, torchvision's classification networks first."""
    import timm
    import torchvision

    own = torchvision.models.list_models(module=torchvision.models)
    return tuple(f"torchvision/{name}" for name in own) + tuple(f"timm/{name}" for name in timm.list_models())


def build_backbone(
    card: EncoderCard, *, device: torch.device | str = "cpu", positions: tuple[int, int] | None = None
) -> nn.Module:
    """The card's network with random weights, without its classification head, in eval mode.

    On the ``meta`` device nothing is allocated: that is how names and shapes are compared before anything is built.
    ``positions`` is the input size (height, width) that its position embeddings are for, where that is not the card's:
    they are then resampled in every pass, as timm resamples them when it loads them.

    Raises:
        UnsupportedInput: no such architecture, or an override that does not fit it.
    """
    family, _, name = card.architecture.partition("/")
    require_known(card.architecture)
    # A constructor draws its initial weights from torch's global generator; leave that as it was.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), torch.device(device):
        warnings.simplefilter("ignore")
        try:
            model = _construct(family, name, card, positions)
        except (AssertionError, RuntimeError, TypeError, ValueError) as failure:
            raise UnsupportedInput(
                "architecture_not_built",
                field="card.architecture",
                found=f"{card.architecture} cannot be built at {card.image_size[0]}x{card.image_size[1]}: {failure}",
                expected="an architecture that exists at the card's input_size",
                action="Correct input_size, or choose another architecture.",
            ) from failure
        for path, change in card.overrides.items():
            _override(model, path, change)
    if isinstance(model, Tower):
        require_size(model)
    return with_small_maps(model).eval()


def shapes_of(backbone: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of everything in ``backbone``'s state dict, as files name it."""
    return {key: tuple(value.shape) for key, value in state_in_file(backbone).items()}


def state_in_file(backbone: nn.Module) -> dict[str, Tensor]:
    """The weights of ``backbone`` under the names that files have for them: its own, but for transformers' modules."""
    return backbone.to_file() if isinstance(backbone, Tower) else backbone.state_dict()


def state_from_file(backbone: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`state_in_file`, for ``load_state_dict``."""
    return backbone.from_file(state) if isinstance(backbone, Tower) else state


def default_preprocessing(
    architecture: str,
) -> tuple[tuple[int, int], tuple[float, float, float], tuple[float, float, float]]:
    """Input size, mean and std that the library's own pretrained weights of ``architecture`` use."""
    family, _, name = architecture.partition("/")
    if family == "open_clip":
        return open_clip_models.preprocessing(architecture)
    if family == "timm":
        import timm

        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
        if config is not None:
            height, width = config.input_size[1:]
            (m0, m1, m2), (s0, s1, s2) = config.mean, config.std
            return (height, width), (m0, m1, m2), (s0, s1, s2)
    side = 299 if name == "inception_v3" else 224
    if name in _TRANSFORM_INPUT:
        return (side, side), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    return (side, side), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def require_known(architecture: str) -> None:
    """Refuse a name that its library does not have.

    Raises:
        UnsupportedInput: ``unknown_architecture``, with near matches, or with the tags that there are.
        UsageError: ``missing_extra``, the library is not installed.
    """
    if architecture.startswith("open_clip/"):
        return open_clip_models.require_known(architecture)
    if is_tower(architecture):
        return
    known = known_architectures()
    if architecture in known:
        return
    import timm
    import torchvision

    name = architecture.rpartition("/")[2]
    if untagged(architecture) in known and architecture.startswith("timm/"):
        if name in timm.list_pretrained(name.partition(".")[0] + ".*"):
            return
        raise _unknown_tag(architecture, timm.list_pretrained(name.partition(".")[0] + ".*"))
    known = (*known, *(f"transformers/{kind}" for kind in ROWS), *open_clip_models.known_if_installed())
    near = [a for a in known if a.rpartition("/")[2] == name] + difflib.get_close_matches(architecture, known, n=4)
    raise UnsupportedInput(
        "unknown_architecture",
        field="card.architecture",
        found=f"'{architecture}', which neither torchvision {torchvision.__version__} nor timm {timm.__version__} has",
        expected="torchvision/<name>, timm/<name>, transformers/<model_type> or open_clip/<name> of a known network"
        + (f"; near matches: {', '.join(dict.fromkeys(near))}" if near else ""),
        action="Correct the name in the card.",
    )


def _unknown_tag(architecture: str, tagged: list[str]) -> UnsupportedInput:
    plain = untagged(architecture)
    return UnsupportedInput(
        "unknown_architecture",
        field="card.architecture",
        found=f"'{architecture}': {plain} is known, but no published weights of that tag",
        expected=f"{plain}"
        + (f", or with one of the tags {', '.join(n.partition('.')[2] for n in tagged)}" if tagged else ""),
        action=f"Write {plain}, or correct the tag.",
    )


def untagged(architecture: str) -> str:
    """``architecture`` without the tag of published weights: ``timm/NAME`` of ``timm/NAME.TAG``."""
    return architecture.partition(".")[0] if architecture.startswith("timm/") else architecture


def _construct(family: str, name: str, card: EncoderCard, positions: tuple[int, int] | None) -> nn.Module:
    if positions is not None:
        return _timm(name, card, positions)
    if family == "open_clip":
        return open_clip_models.build_tower(card)
    if family == "transformers":
        return build_tower(card)
    build = _torchvision if family == "torchvision" else _timm
    try:
        return build(name, card)
    except RuntimeError:
        if torch.get_default_device().type != "meta":
            raise
    # A few constructors (RegNet's) compute with tensors and need real ones.
    with torch.device("cpu"):
        return build(name, card).to("meta")


def _torchvision(name: str, card: EncoderCard) -> nn.Module:
    import torchvision

    builder = torchvision.models.get_model_builder(name)
    options: dict[str, object] = {"weights": None, "weights_backbone": None}
    accepted = inspect.signature(builder).parameters
    options = {key: value for key, value in options.items() if key in accepted}
    if name.startswith("vit_"):
        options["image_size"] = _square(card)
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": False}
    model: nn.Module = builder(**options)
    for head in _HEADS:
        if isinstance(getattr(model, head, None), nn.Module):
            setattr(model, head, _pooling(name, getattr(model, head)))
    if name.startswith(("vgg", "alexnet")):
        model.avgpool = nn.AdaptiveAvgPool2d(1)
    return model


def _pooling(name: str, head: nn.Module) -> nn.Module:
    """What stays of a torchvision ``head`` so that the network ends in one pooled vector: nothing, as a rule.

    ConvNeXt and MaxViT normalise (and MaxViT pools) inside their classifier. SqueezeNet's classifier is a convolution
    that the pooling comes after; of it, as of VGG and AlexNet, the feature is the average of the last feature maps.
    """
    if name.startswith("convnext"):
        return nn.Sequential(*list(head.children())[:2])
    if name.startswith("maxvit"):
        return nn.Sequential(*list(head.children())[:3])
    return nn.AdaptiveAvgPool2d(1) if name.startswith("squeezenet") else nn.Identity()


def _timm(name: str, card: EncoderCard, positions: tuple[int, int] | None = None) -> nn.Module:
    import timm

    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    # Position embeddings have the input size in their shape; a convolutional net takes any size and no such option.
    options: dict[str, Any] = {"img_size": card.image_size} if config is not None and config.fixed_input_size else {}
    # ... and the patch size as well: an override of the patch embedding must be known before they are made.
    patch = card.overrides.get(_PATCH_EMBEDDING)
    if options and isinstance(patch, ConvolutionChange) and "kernel_size" in patch.changes():
        options["patch_size"] = patch.changes()["kernel_size"]
    if positions is not None:
        options |= {"img_size": positions, "dynamic_img_size": True}
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **options)
    return model


def _square(card: EncoderCard) -> int:
    height, width = card.image_size
    if height != width:
        raise ValueError("this architecture takes square images only")
    return height


def _override(model: nn.Module, path: str, change: str | ConvolutionChange) -> None:
    field = f"card.overrides.{path}"
    parent_path, _, name = path.rpartition(".")
    try:
        parent, old = model.get_submodule(parent_path), model.get_submodule(path)
    except AttributeError as failure:
        near = difflib.get_close_matches(path, [key for key, _ in model.named_modules()], n=4)
        raise UnsupportedInput(
            "unknown_module",
            field=field,
            found="no module of that name",
            expected="a module of the architecture" + (f", such as {', '.join(near)}" if near else ""),
            action="Correct the override's name.",
        ) from failure
    if isinstance(change, str):
        setattr(parent, name, nn.Identity())
        return
    if type(old) is not nn.Conv2d:
        raise UnsupportedInput(
            "override_not_a_convolution",
            field=field,
            found=f"a {type(old).__name__}",
            expected="a plain 2-d convolution",
            action="Override convolutions only, or use 'identity' to remove a module.",
        )
    kept = {"kernel_size": old.kernel_size, "stride": old.stride, "padding": old.padding, "dilation": old.dilation}
    setattr(
        parent,
        name,
        nn.Conv2d(
            old.in_channels,
            old.out_channels,
            groups=old.groups,
            bias=old.bias is not None,
            padding_mode=old.padding_mode,
            **(kept | change.changes()),  # type: ignore[arg-type]
        ),
    )
