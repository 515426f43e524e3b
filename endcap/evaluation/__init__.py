"""Honest numbers: metrics of a model against the champion and the baselines, and the gate's verdict."""

from endcap.evaluation.judge import describe, judge

__all__ = ["describe", "judge"]
