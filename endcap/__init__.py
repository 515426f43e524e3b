"""Endcap: from a shop's event log to a personalised ranking service."""

__version__ = "0.1.0"
