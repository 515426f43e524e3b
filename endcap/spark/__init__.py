"""Spark for a step: behind a Spark Connect address, or started for the step and ended with it."""

from __future__ import annotations

from endcap.spark.session import open_session

__all__ = ["open_session"]
