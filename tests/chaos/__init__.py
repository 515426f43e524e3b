"""Attacks on real servers, stores and pipelines, repeatable by a seed: ``make chaos``, or ``python -m tests.chaos``."""
