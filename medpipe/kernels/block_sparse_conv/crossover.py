"""Which form is taken at a level: `benchmarks/masked_pretraining.py --crossover` measures both."""

from medpipe.kernels.block_sparse_conv.visible_blocks import BlockLevel

# By voxels of a block: the largest visible share at which the gathered form is taken. From single timings of a loaded
# CPU: to be measured again.
CROSSOVER = {1: 0.5, 8: 0.5, 64: 0.7, 512: 0.7, 4096: 0.7}


def is_gathered_faster(level: BlockLevel, channels: int, device: str) -> bool:
    """Whether a level's convolutions to so many channels are faster on its visible blocks than dense and masked."""
    share = level.grid.num_blocks / max(1, level.grid.is_hidden.numel())
    voxels = max((edge for edge in CROSSOVER if edge <= level.num_voxels), default=1)
    return share <= CROSSOVER[voxels]
