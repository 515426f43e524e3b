"""Fits over several workers, on one machine or many: Ray Train starts them, and begins anew those that die."""

from endcap.training.distributed.fitter import DistributedFitter

__all__ = ["DistributedFitter"]
