"""Recommendations made ahead of time."""
