"""A run that stops in the middle with a checkpoint on disk, and one that goes on from it."""

from core.checkpoint import load_checkpoint, save_checkpoint
from core.run import QuietRun


class InterruptedRun(QuietRun):
    """Stops after ``after`` steps and writes the checkpoint, as it does at the end; a second run starts there."""

    def __init__(self, path, after=None, start=0):
        self.path, self.after, self.start = path, after, start

    def steps(self, name, total, *, state=None):
        if self.start:
            state.load_state_dict(load_checkpoint(self.path))
        for step in range(self.start, total):
            if step == self.after:
                save_checkpoint(self.path, state.state_dict())
                raise KeyboardInterrupt
            yield step
        save_checkpoint(self.path, state.state_dict())
