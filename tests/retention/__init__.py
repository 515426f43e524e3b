"""Tests of what stays in a store and what goes."""
