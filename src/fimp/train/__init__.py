"""Training: sampling, loaders, checkpoints, resume; inference over large graphs."""

from fimp.train.fit import Fitted, TrainOptions, evaluate, fit
from fimp.train.inference.layerwise import layerwise_blocks, layerwise_inference
from fimp.train.sampler import NeighborSampler

__all__ = [
    "Fitted",
    "NeighborSampler",
    "TrainOptions",
    "evaluate",
    "fit",
    "layerwise_blocks",
    "layerwise_inference",
]
