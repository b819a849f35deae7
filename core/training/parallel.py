"""Training on several devices at once: one process each, started by ``torchrun``; without it, one process alone.

Every process draws the same batch and takes its share of it, so the batches of a training do not depend on how many
devices it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from core.device import collective_backend, is_gpu, numbered_gpu


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the other processes that ``torchrun`` started; nothing when it did not."""
    if not distributed.is_torchelastic_launched():
        yield
        return
    distributed.init_process_group(collective_backend(device))
    try:
        yield
        # Who is done first waits: a group that goes while another process still talks to it takes that one down.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process: under ``torchrun`` each takes the one of its number on the machine."""
    if not is_gpu(device) or not distributed.is_torchelastic_launched():
        return device
    own = numbered_gpu(distributed.get_node_local_rank())
    torch.cuda.set_device(own)
    return own


def world_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """This process's number among them; the first, 0, writes and reports."""
    return distributed.get_rank() if world_size() > 1 else 0


def share_of(indices: Tensor) -> Tensor:
    """This process's part of a batch's ``indices``; all parts have the same length."""
    each = len(indices) // world_size()
    return indices[rank() * each : (rank() + 1) * each]


def gathered(tensor: Tensor) -> Tensor:
    """``tensor`` ``[B, ...]`` of every process, one after the other in their order, ``[W * B, ...]``; gradients flow
    back to the process that each part came from."""
    if world_size() == 1:
        return tensor
    from torch.distributed.nn.functional import all_gather  # imports a compiler that nobody needs who trains alone

    return torch.cat(all_gather(tensor))


def distribute(module: nn.Module) -> nn.Module:
    """``module`` with gradients averaged over all processes; BatchNorm then counts the whole batch on GPUs."""
    if world_size() == 1:
        return module
    device = next(module.parameters()).device
    if is_gpu(device):
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return DistributedDataParallel(module, device_ids=[device] if is_gpu(device) else None)
