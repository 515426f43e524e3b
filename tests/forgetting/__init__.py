"""Tests of forgetting customers."""
