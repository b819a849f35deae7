"""``cleanse``: which images of a training set carry a trigger, and which may be trained on?"""

from __future__ import annotations

from core.images.duplicates import duplicate_groups
from core.kinds.findings import SetFindings, Subject
from core.methods import Choice, Cleanse, Train
from core.run import Run


def cleanse(
    subject: Subject, cleansing: Choice[Cleanse], threat_model: Choice[Train], run: Run, *, archive: bool
) -> SetFindings:
    """Judge the images by an encoder that was trained on them; train one first where none was given.

    No label is used: the names of folders are never read. The images and the encoder that were given are unchanged.
    """
    search = {name: passes.weight for name, passes in cleansing.passes(subject.load).items()}
    training = None
    encoder = subject.encoder
    if subject.fresh is None:
        run.plan(search)
    else:
        before = {name: passes.weight for name, passes in threat_model.passes(subject.load).items()}
        run.plan({**before, **search})
        training = threat_model.method.apply(encoder, subject.images, threat_model.config, run, seed=subject.seed)
        encoder = training.encoder
    found = cleansing.method.apply(encoder, subject.images, cleansing.config, run, seed=subject.seed)
    return SetFindings(found, training, duplicate_groups(subject.images), archive)
