"""Requests and their answers: what the server and every offline job share."""

from endcap.ranking.answer import Answer
from endcap.ranking.ranker import Ranker
from endcap.ranking.request import RankRequest, RequestEvent
from endcap.ranking.session import PrecomputedList, ShopperContext

__all__ = ["Answer", "PrecomputedList", "RankRequest", "Ranker", "RequestEvent", "ShopperContext"]
