"""Triggers: the attacker's change to an image, in pixel space. One kind per file; ``file`` reads and writes them."""

from core.triggers.additive import AdditiveTrigger
from core.triggers.blended import BlendedTrigger
from core.triggers.file import load_trigger, save_trigger
from core.triggers.masked import MaskedTrigger

__all__ = ["AdditiveTrigger", "BlendedTrigger", "MaskedTrigger", "load_trigger", "save_trigger"]
