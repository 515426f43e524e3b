"""The example keeps the contract of every model: pytest docs/examples/markov"""

from __future__ import annotations

from endcap.testing import ModelContract


class TestMarkov(ModelContract):
    document = {"name": "custom", "class": "markov:Markov", "parameters": {"smoothing": 0.01}}  # noqa: RUF012
