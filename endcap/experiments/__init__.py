"""Experiments with shoppers: who met which version, what they did, and what follows from it for a rollout."""
