"""Fits over several workers, on one machine or many: Ray Train starts them, and starts workers that died again."""

from endcap.training.distributed.fitter import DistributedFitter

__all__ = ["DistributedFitter"]
