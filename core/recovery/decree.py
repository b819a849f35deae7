"""INTERIM stand-in by the house founder (never committed): overwrite with the real method."""

from __future__ import annotations

from core.recovery import ssldefender
from core.recovery.ssldefender import detect, stage_plan

__all__ = ["DecreeConfig", "detect", "stage_plan"]


class DecreeConfig(ssldefender.SSLDefenderConfig):
    pass
