"""Lightning's Trainer for the processes that are there, without its files, messages and guesses at the environment."""

from pathlib import Path
from typing import Any, final

import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy, Strategy
from torch import nn

from medpipe.tasks.options import TrainingConfig
from medpipe.tasks.processes import Processes
from medpipe.tasks.world import World, batch_problem


@final
class GivenProcesses(ClusterEnvironment):
    """The place that medpipe found for this process. Lightning looks for one by itself, and by other rules.

    Each process tells Lightning of its own device alone, whose place among the visible ones is no rank.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self.world.address or "127.0.0.1"

    @property
    def main_port(self) -> int:
        return self.world.port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.world.size

    def set_world_size(self, size: int) -> None:
        return

    def global_rank(self) -> int:
        return self.world.rank

    def set_global_rank(self, rank: int) -> None:
        return

    def local_rank(self) -> int:
        return 0  # of its one device

    def node_rank(self) -> int:
        return self.world.node


def make_trainer(config: TrainingConfig, processes: Processes, callback: Callback, folder: Path) -> Trainer:
    """A Trainer of one epoch. Raises ValueError: a batch that the processes cannot share, a process without its GPU."""
    problem = batch_problem(config.batch_size, processes.size)
    if problem is not None:
        raise ValueError(problem)
    device = device_of(config, processes.world)
    trainer = Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index] if device.type == "cuda" else 1,
        num_nodes=1,
        plugins=[GivenProcesses(processes.world)],
        strategy=_strategy(config, processes, device),
        precision=config.precision,
        gradient_clip_val=config.gradient_clip,
        max_epochs=1,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        benchmark=False,
        sync_batchnorm=processes.size > 1 and device.type == "cuda",
        default_root_dir=folder,
    )
    # Signals set the caller's flag alone: Lightning's handler would raise in the middle of a step (#20542, #21406).
    trainer._signal_connector.register_signal_handlers = lambda: None
    return trainer


def device_of(config: TrainingConfig, world: World) -> torch.device:
    """The device of this process. Raises ValueError: no GPU for it."""
    if config.accelerator == "cpu" or (config.accelerator == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    visible = torch.cuda.device_count()
    if visible == 0:
        raise ValueError(
            "training.accelerator is gpu, and no GPU is visible here; ask for one, or set accelerator: cpu"
        )
    if visible == 1:
        # A launcher may show each process a GPU of its own. Where it is one for all, NCCL says so when it connects.
        return torch.device("cuda", 0)
    if world.local_rank >= visible:
        raise ValueError(
            f"{world.name()} is number {world.local_rank} on its node, which shows {visible} GPUs; start as many "
            "processes a node as it has GPUs"
        )
    return torch.device("cuda", world.local_rank)


def check_normalisation(network: nn.Module, config: TrainingConfig, processes: Processes) -> None:
    """Refuse a batch in parts where the network takes statistics over the batch: its result would depend on the parts.

    Raises ValueError. On several GPUs the statistics are shared (SyncBatchNorm), so that one part a process is right.
    """
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        return
    share = config.batch_size // processes.size
    if config.samples_at_once is not None and config.samples_at_once < share:
        raise ValueError(
            f"the network normalises over its batch, so a process must see its {share} samples at once: leave out "
            "training.samples_at_once, or choose a backbone with instance normalisation"
        )
    if processes.size > 1 and device_of(config, processes.world).type == "cpu":
        raise ValueError("the network normalises over its batch, which torch shares between processes on GPUs alone")


def _strategy(config: TrainingConfig, processes: Processes, device: torch.device) -> Strategy:
    if processes.size == 1:
        return SingleDeviceStrategy(device=device)
    if config.strategy == "fsdp":
        return ModelParallelStrategy(
            data_parallel_size=processes.size, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    # Every buffer is the same everywhere already; broadcasting them at every step would only take time.
    options: dict[str, Any] = {"broadcast_buffers": False, "gradient_as_bucket_view": True}
    return DDPStrategy(**options)
