"""Two processes train one encoder: the gradients of both count, and both end with the same weights."""

import os
import subprocess
import sys

import torch

from core.training.parallel import share_of, world_size

_SCRIPT = """
import sys
import torch
from core.run import QuietRun
from core.training.parallel import process_group, rank, world_size
from core.training.pretrain import pretrain
from core.training.trainers import find_trainer
from tests.planted import planted_encoder_for_training, planted_images
from tests.unit.training.test_pretrain import SMALL

torch.set_num_threads(1)
with process_group(torch.device("cpu")):
    assert world_size() == 2
    for key in sys.argv[2:]:
        row = find_trainer(key)
        config = row.config(**{"batch_size": 16, "epochs": 1, **SMALL[key]})
        result = pretrain(planted_encoder_for_training(), planted_images(64), row.objective, config, QuietRun(), seed=0)
        learnt = {name: value for name, value in result.encoder.named_parameters()}
        torch.save(learnt, f"{sys.argv[1]}/{key}-{rank()}.pt")
"""


def test_alone_a_process_takes_the_whole_batch():
    assert world_size() == 1
    assert share_of(torch.arange(6)).tolist() == list(range(6))


def test_two_processes_end_with_the_same_weights(tmp_path):
    keys = ("simclr", "moco-v2", "moco-v3", "byol")
    script = tmp_path / "train.py"
    script.write_text(_SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [*launcher, str(script), str(tmp_path), *keys], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for key in keys:
        first, second = (torch.load(tmp_path / f"{key}-{rank}.pt") for rank in (0, 1))
        assert first and all(torch.equal(first[name], second[name]) for name in first)
