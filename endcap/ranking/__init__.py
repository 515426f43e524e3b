"""Requests and their answers: what the server and every offline job share."""

from endcap.ranking.ranker import Answer, Ranker
from endcap.ranking.request import Event, RankRequest

__all__ = ["Answer", "Event", "RankRequest", "Ranker"]
