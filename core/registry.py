"""Every method of detection, purification, cleansing and threat models, one row each. A new one is one new file and one
row here."""

from __future__ import annotations

from functools import partial

from core.cleansing import patch_search, poison_cam
from core.methods import Cleanse, Detect, Method, Train, Unlearn
from core.recovery import decree, ssl_cleanse, ssldefender, ssldefender_search
from core.recovery.power import worth
from core.training import threat_model
from core.unlearning import fine_pruning, fine_tuning, nad, neural_cleanse, random_triggers, ssl_kd
from core.unlearning import ssldefender as distillation

DECREE: Method[Detect] = Method(
    key="decree",
    title="DECREE trigger inversion",
    description=(
        "The field's baseline: optimises one masked patch that makes all images alike and judges the patch by its "
        "size. Blind to triggers that cover the whole image."
    ),
    config=decree.DecreeConfig,
    apply=decree.detect,
    stage_plan=decree.stage_plan,
    settles_from=decree.SETTLES_FROM,
    worth=partial(worth, decree.METHOD),
)

DETECTION: tuple[Method[Detect], ...] = (
    Method(
        key="ssldefender",
        title="SSLDefender trigger recovery",
        description=(
            "Searches for masked-patch and additive triggers with generators trained against the encoder, and judges "
            "how strongly the recovered triggers pull unrelated images together. Looks for several kinds of trigger."
        ),
        config=ssldefender_search.SSLDefenderConfig,
        apply=ssldefender.detect,
        stage_plan=ssldefender_search.stage_plan,
        expand_triggers=ssldefender.expand_triggers,
        expansion_plan=ssldefender.expansion_plan,
        score_kinds=ssldefender.kind_scores,
        second=DECREE,
        worth=partial(worth, ssldefender_search.METHOD),
    ),
    DECREE,
    Method(
        key="ssl-cleanse",
        title="SSL-Cleanse cluster-wise inversion",
        description=(
            "A baseline: searches the smallest patch that leads to each cluster of clean images and judges the "
            "smallest of them by how far it stands out. Blind to triggers that cover the whole image."
        ),
        config=ssl_cleanse.SslCleanseConfig,
        apply=ssl_cleanse.detect,
        stage_plan=ssl_cleanse.stage_plan,
        settles_from=ssl_cleanse.SETTLES_FROM,
        worth=partial(worth, ssl_cleanse.METHOD),
    ),
)
"""Detection methods; the first is the default."""

PURIFICATION: tuple[Method[Unlearn], ...] = (
    Method(
        key="ssldefender",
        title="SSLDefender distillation-guided unlearning",
        description=(
            "Trains a copy of the encoder to ignore the recovered triggers while its features of clean images stay "
            "those of the original."
        ),
        config=distillation.UnlearningConfig,
        apply=distillation.unlearn,
        stage_plan=distillation.stage_plan,
    ),
    Method(
        key="neural-cleanse",
        title="Neural Cleanse unlearning",
        description=(
            "A baseline: fine-tunes a copy so that images stamped with the best recovered patch keep their clean "
            "features. One trigger, where it was found, and nothing else."
        ),
        config=neural_cleanse.NeuralCleanseConfig,
        apply=neural_cleanse.unlearn,
        stage_plan=neural_cleanse.stage_plan,
        uses_new_triggers=False,
    ),
    Method(
        key="fine-tuning",
        title="Fine-tuning on clean images",
        description=(
            "A baseline that uses no trigger: contrastive training of a copy on the clean images, anchored to the "
            "given encoder's features."
        ),
        config=fine_tuning.FineTuningConfig,
        apply=fine_tuning.unlearn,
        stage_plan=fine_tuning.stage_plan,
        uses_new_triggers=False,
    ),
    Method(
        key="fine-pruning",
        title="Fine-pruning",
        description=(
            "A baseline that uses no trigger: cuts the channels that clean images leave silent, as long as clean "
            "features stay, then fine-tunes. For convolutional networks."
        ),
        config=fine_pruning.FinePruningConfig,
        apply=fine_pruning.unlearn,
        stage_plan=fine_pruning.stage_plan,
        uses_new_triggers=False,
    ),
    Method(
        key="nad",
        title="NAD attention distillation",
        description=(
            "A baseline that uses no trigger: fine-tunes a teacher on the clean images and makes the encoder's "
            "attention and features follow it. For convolutional networks."
        ),
        config=nad.NadConfig,
        apply=nad.unlearn,
        stage_plan=nad.stage_plan,
        uses_new_triggers=False,
    ),
    Method(
        key="ssl-kd",
        title="SSL-KD distillation",
        description=(
            "A baseline that uses no trigger: fine-tunes a teacher on the clean images and distils its features into "
            "the encoder, with a contrastive and a cosine term."
        ),
        config=ssl_kd.SslKdConfig,
        apply=ssl_kd.unlearn,
        stage_plan=ssl_kd.stage_plan,
        uses_new_triggers=False,
    ),
    Method(
        key="random-triggers",
        title="Unlearning of random triggers",
        description=(
            "The control for the default: the same unlearning with random patches and noise in place of the recovered "
            "triggers."
        ),
        config=random_triggers.RandomTriggersConfig,
        apply=random_triggers.unlearn,
        stage_plan=random_triggers.stage_plan,
        uses_new_triggers=False,
    ),
)
"""Purification methods; the first is the default."""

CLEANSING: tuple[Method[Cleanse], ...] = (
    Method(
        key=poison_cam.METHOD,
        title="PoisonCAM cluster activation masking",
        description=(
            "Finds the images of an unlabelled set that carry a pasted patch: masks parts of images to see what holds "
            "them in their cluster, pastes these parts on others, and trains a classifier on the patches that act."
        ),
        config=poison_cam.PoisonCamConfig,
        apply=poison_cam.cleanse,
        stage_plan=poison_cam.stage_plan,
    ),
    Method(
        key=patch_search.METHOD,
        title="PatchSearch by Grad-CAM",
        description=(
            "The baseline of PoisonCAM: the same search with Grad-CAM to locate the patch. Cheaper per image and less "
            "exact, most of all on small images."
        ),
        config=patch_search.PatchSearchConfig,
        apply=patch_search.cleanse,
        stage_plan=patch_search.stage_plan,
    ),
)
"""Cleansing methods; the first is the default."""

THREAT_MODELS: tuple[Method[Train], ...] = (
    Method(
        key="simclr",
        title="SimCLR threat model",
        description=(
            "Trains a network on the suspect images where no encoder is given: two views of an image should have like "
            "features, all others of the batch unlike ones."
        ),
        config=threat_model.SimclrThreatConfig,
        apply=threat_model.train_simclr,
        stage_plan=threat_model.simclr_plan,
    ),
    Method(
        key="moco-v2",
        title="MoCo v2 threat model",
        description="The papers' threat model: as SimCLR, with a momentum copy and a queue of earlier keys.",
        config=threat_model.MocoThreatConfig,
        apply=threat_model.train_moco,
        stage_plan=threat_model.moco_plan,
    ),
)
"""Trainers of threat models; the first is the default."""
