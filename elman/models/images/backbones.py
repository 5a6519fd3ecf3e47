"""Encoders of pictures from torchvision and timm, by name."""

from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from elman.errors import OptionError, RunError, ShapeError, unknown

LIBRARIES = ("torchvision", "timm")
#: What the pictures of ImageNet have, which their weights were trained on.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Where torchvision's networks end to be grids.
HEADS = ("avgpool", "dropout", "fc", "classifier", "head", "heads", "flatten")


def check_name(name: str) -> None:
    """Raise OptionError for what is not LIBRARY:MODEL."""
    library, colon, _ = name.partition(":")
    if not colon:
        raise OptionError(f"unknown encoder '{name}': valid are conv, torchvision:NAME, timm:NAME")
    if library not in LIBRARIES:
        raise unknown("library of encoders", library, LIBRARIES)


class Backbone(NamedTuple):
    """An encoder [B, 3, H, W] -> [B, C, h, w] or [B, S, C], its C, and what it was trained on."""

    module: nn.Module
    feature_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def is_backbone(name: str) -> bool:
    """Whether an encoder's name is LIBRARY:MODEL."""
    return ":" in name


def backbone(name: str, picture_size: tuple[int, int], *, pretrained: bool) -> Backbone:
    """The network that torchvision:NAME or timm:NAME stands for, without what follows its grid.

    pretrained: with the library's weights, which it may have to fetch.
    Raises OptionError where the library is not installed, or has no such network, or the network
    cannot read pictures of this size; RunError where its weights cannot be had.
    """
    check_name(name)
    library, _, model = name.partition(":")
    try:
        # One that was built for another torch fails with a RuntimeError.
        import_module(library)
    except (ImportError, RuntimeError) as error:
        raise OptionError(
            f"encoder {name}: {library} is not installed, or not for this torch ({error}): pip "
            f"install {library}, or leave --encoder out"
        ) from error
    try:
        found = {"torchvision": _torchvision, "timm": _timm}[library](model, pretrained)
    except OSError as error:  # no network, and what Hugging Face's hub raises
        raise RunError(
            f"encoder {name}: its weights cannot be fetched ({error}); begin without them: "
            "--no-pretrained"
        ) from error
    module, mean, std = found
    return Backbone(module, _size(name, module, picture_size), mean, std)


def _torchvision(name: str, pretrained: bool) -> tuple[nn.Module, Any, Any]:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise unknown("network of torchvision", name, models.list_models(module=models))
    whole = models.get_model(name, weights="DEFAULT" if pretrained else None)
    parts = {k: m for k, m in whole.named_children() if k not in HEADS and "aux" not in k.lower()}
    if "features" in parts:  # swin's grid has its channels last until it is permuted
        parts = {k: parts[k] for k in ("features", "norm", "permute") if k in parts}
    return nn.Sequential(*parts.values()), MEAN, STD


def _timm(name: str, pretrained: bool) -> tuple[nn.Module, Any, Any]:
    import timm

    if not timm.is_model(name):
        raise unknown("network of timm", name, timm.list_models())
    whole = timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="")
    known = getattr(whole, "pretrained_cfg", None) or {}
    return _Timm(whole), tuple(known.get("mean", MEAN)), tuple(known.get("std", STD))


class _Timm(nn.Module):
    """A network of timm, its channels before its places, and without tokens that are no place."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, x: Tensor) -> Tensor:
        found = self.whole(x)
        if found.dim() == 4 and getattr(self.whole, "output_fmt", "NCHW") == "NHWC":
            return found.permute(0, 3, 1, 2)
        if found.dim() == 3:
            return found[:, int(getattr(self.whole, "num_prefix_tokens", 0)) :]
        return found


def _size(name: str, module: nn.Module, picture_size: tuple[int, int]) -> int:
    """C, found by reading a picture."""
    was = module.training
    try:
        with torch.no_grad():
            found = module.eval()(torch.zeros(1, 3, *picture_size))
    except Exception as error:
        height, width = picture_size
        raise OptionError(
            f"encoder {name}: cannot read a picture of {height} x {width} as a grid ({error}); "
            "another --size may help, as 224"
        ) from error
    finally:
        module.train(was)
    if found.dim() not in (3, 4):
        raise ShapeError(f"encoder {name}: gives no grid of places, but {list(found.shape)}")
    return int(found.shape[1] if found.dim() == 4 else found.shape[2])
