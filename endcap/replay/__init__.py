"""Sampled answers computed again, with a named reason for each difference."""

from endcap.replay.replay import LogSource, replay
from endcap.replay.report import ReplayReport

__all__ = ["LogSource", "ReplayReport", "replay"]
