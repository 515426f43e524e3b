"""The split of a recommender: which predictors answer its shoppers, and who meets which."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from endcap.deploy.gateway_settings import DEFAULT_SETTINGS, GatewaySettings
from endcap.experiments.layout import ArmSegment, Layout
from endcap.experiments.splits import ARMS, CHALLENGERS, TOTAL_WEIGHT, Arm, TrafficSplit, hash_salt, weigh_share
from endcap_serving.gateway.clusters import Upstream


class RoutedSegment(NamedTuple):
    """Neighbouring places of the hash range, and who answers their shoppers."""

    arm: Arm
    weight: int
    upstream: Upstream


@dataclass(frozen=True)
class Split:
    """Which predictors answer a recommender's shoppers, and with which shares.

    Parameters
    ----------
    stable
        The predictors of the champion. Without them the canary answers everyone if its share is 1. If its share is
        less, only the list answers, because a version on trial never gets more than its share.
    canary
        The predictors of the challenger, if any.
    share
        The canary's share of the shoppers, from 0 to 1. A hash of the shopper's id and `salt` decides who meets it.
    salt
        It differs between rollouts, so that each one meets other shoppers.
    shadow
        Predictors that get copies of requests. Nobody sees their answers.
    shadow_share
        The share of the requests that the shadow gets, from 0 to 1, drawn by chance.
    terms
        The recommender's settings for the gateway: its timeout and its lists.
    previous, previous_share
        The predictors of the version before the stable one, which go on for a few shoppers, to compare with.
    baseline, baseline_share
        Predictors of popularity, which show what personalisation brings, and their share of all shoppers. The other
        shares are of the shoppers whom the baseline does not have.
    challengers
        The predictors of an A/B test's challengers, by their numbers; None for one without predictors. During a test
        there is neither canary nor previous version.
    layout
        Who meets which arm of the test. A challenger without predictors leads its shoppers to stable, and nobody else
        moves.
    popularity_only
        The versions get no request. Popularity answers everyone, also requests without a shopper; without its
        predictors the list does.

    Notes
    -----
    The xDS service stores a split under these field names (last_state.py), so they must not change.
    """

    stable: Upstream | None
    canary: Upstream | None = None
    share: float = 0.0
    salt: str = ""
    shadow: Upstream | None = None
    shadow_share: float = 0.0
    terms: GatewaySettings = DEFAULT_SETTINGS
    previous: Upstream | None = None
    previous_share: float = 0.0
    baseline: Upstream | None = None
    baseline_share: float = 0.0
    popularity_only: bool = False
    challengers: tuple[Upstream | None, ...] = ()
    layout: Layout | None = None

    @cached_property
    def answering_layout(self) -> Layout | None:
        """The layout of the A/B test, in which stable has the places of challengers without predictors."""
        if self.layout is None or self.popularity_only:
            return None
        return self.layout.replace_arms(arm for arm in CHALLENGERS if self._find_predictors(arm) is None)

    @property
    def weights(self) -> TrafficSplit:
        """The weights of the arms. An arm without predictors gets nothing."""
        if self.popularity_only:
            return TrafficSplit(hash_salt(self.clean_salt), baseline=TOTAL_WEIGHT)
        baseline = weigh_share(self.baseline_share) if self.baseline else 0
        if self.answering_layout is not None:
            return self.answering_layout.split(hash_salt(self.clean_salt), baseline)
        return TrafficSplit(
            hash_salt(self.clean_salt),
            canary=weigh_share(self.share) if self.canary else 0,
            previous=weigh_share(self.previous_share) if self.previous else 0,
            baseline=baseline,
        )

    @property
    def clean_salt(self) -> str:
        """The salt as it goes in front of the shopper: letters, digits and hyphens."""
        return re.sub("[^0-9A-Za-z]", "-", self.salt)

    @property
    def shadow_weight(self) -> int:
        """The part of `TOTAL_WEIGHT` that is copied to the shadow."""
        return weigh_share(self.shadow_share) if self.shadow else 0

    @property
    def segments(self) -> list[RoutedSegment]:
        """The arms of the hash range that have predictors and a weight, side by side from its lower end."""
        weights, layout = self.weights, self.answering_layout
        places = [ArmSegment(arm, weights.weigh(arm)) for arm in ARMS if arm != "baseline"]
        pairs = [(place, self._find_predictors(place.arm)) for place in (layout.segments if layout else places)]
        return [
            RoutedSegment(place.arm, place.weight, upstream) for place, upstream in pairs if upstream and place.weight
        ]

    @property
    def upstreams(self) -> list[Upstream]:
        """All predictors of the split: those of the arms, and the shadow's."""
        all_upstreams = (self.stable, self.canary, self.previous, *self.challengers, self.baseline, self.shadow)
        return [upstream for upstream in all_upstreams if upstream]

    def _find_predictors(self, arm: Arm) -> Upstream | None:
        if arm in CHALLENGERS:
            return next(islice(self.challengers, CHALLENGERS.index(arm), None), None)
        upstream: Upstream | None = getattr(self, arm)
        return upstream


def list_upstreams(splits: Iterable[Split]) -> list[Upstream]:
    """List the upstreams of several splits, each once, in their order."""
    return list(dict.fromkeys(upstream for split in splits for upstream in split.upstreams))
