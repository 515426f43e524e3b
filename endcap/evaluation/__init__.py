"""Honest numbers: metrics of a model against the champion and the baselines, and the gate's verdict."""

from endcap.evaluation.judge import judge
from endcap.evaluation.verdict_text import describe_verdict

__all__ = ["describe_verdict", "judge"]
