"""Requests and their answers: what the server and every offline job share."""

from endcap.ranking.answer import Answer
from endcap.ranking.ranker import Ranker
from endcap.ranking.request import Event, RankRequest
from endcap.ranking.session import Known, Precomputed

__all__ = ["Answer", "Event", "Known", "Precomputed", "RankRequest", "Ranker"]
