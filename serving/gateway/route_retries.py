"""How long Envoy waits for a ranking, and which predictor it asks next when one does not answer.

A ranking changes nothing, so Envoy may ask again whatever became of the first try. At worst a predictor logs a ranking
that nobody saw, under the same ranking id; only impressions count. The intake writes what it takes, so Envoy sends a
request to it again only if nothing of the request was sent.
"""

from __future__ import annotations

from endcap.deploy.gateway_settings import GatewaySettings
from endcap_serving.gateway.clusters import TYPE, Json, bound_connect_timeout, format_seconds

MOST_TRIES = 2
"""Tries with predictors, if a name may stand for several of them."""
_LIST_SHARE = 0.1
"""Share of a request's time that is kept for the list server, for when the predictors have used theirs."""
_LIST_SECONDS = 0.05
"""The least that is kept, as far as it is no more than `_MOST_LIST_SHARE`: a busy machine is often late by so much."""
_MOST_LIST_SHARE = 0.25
_HEDGE_SHARE = 0.75
"""Share of a request's time after which a second predictor is asked too. Without a list the first may use all of it."""
_OTHER_HOSTS: Json = {
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": f"{TYPE}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
        }
    ],
    # Each attempt draws a host. If all draws meet the host that failed, it is asked again: with two hosts, once in a
    # million.
    "host_selection_retry_max_attempts": 20,
    "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.050s"},
}


def derive_connect_timeout(timeout: float) -> float:
    """Return how long a connection to a predictor may take.

    Parameters
    ----------
    timeout
        Seconds that a request may take.

    Returns
    -------
    float
        Seconds. The value is the same with and without a list, so a change of the list changes no cluster.
    """
    return bound_connect_timeout((timeout - _keep_for_list(timeout)) / MOST_TRIES)


def build_ranking_retries(settings: GatewaySettings, *, replicated: bool) -> Json:
    """Build the timeout, retry policy and hedge policy of a recommender's route.

    Parameters
    ----------
    settings
        They say how long a request may take, and whether there is a list for when no predictor answers.
    replicated
        Whether a second try may meet another predictor.

    Returns
    -------
    dict
        Fields of Envoy's ``RouteAction``.

    Notes
    -----
    The timeout covers all tries of a request. If there is a list, the tries before it share most of the time. If there
    is none, the first predictor may use all of the time; a second predictor, if any, is asked when three quarters of it
    are over, and the first answer counts. With one predictor and no list, Envoy asks again only after a broken
    connection.
    """
    timeout, offers_list = settings.timeout, settings.offers_list
    tries = MOST_TRIES if replicated else 1
    policy: Json = {**_OTHER_HOSTS, "retry_on": "connect-failure,refused-stream,reset", "num_retries": 1}
    hedge: Json = {}
    if tries > 1 or offers_list:
        # The answers 502, 503 (the predictor is overloaded or about to end) and 504.
        policy["retry_on"] += ",gateway-error"
        policy["num_retries"] = tries - 1 + offers_list
    if offers_list:
        policy["per_try_timeout"] = format_seconds((timeout - _keep_for_list(timeout)) / tries)
        policy["retry_priority"] = _build_retry_priority(tries)
    elif tries > 1:
        policy["per_try_timeout"] = format_seconds(timeout * _HEDGE_SHARE)
        hedge = {"hedge_policy": {"hedge_on_per_try_timeout": True}}
    return {"timeout": format_seconds(timeout), "retry_policy": policy, **hedge}


def build_intake_retries() -> Json:
    """Build the retry policy of the intake's route: Envoy asks again only if nothing of the request was sent."""
    return {"retry_policy": {**_OTHER_HOSTS, "retry_on": "connect-failure,refused-stream", "num_retries": 2}}


def _keep_for_list(timeout: float) -> float:
    """Return the seconds that are kept for the list server, out of those that a request may take."""
    return max(_LIST_SHARE * timeout, min(_LIST_SECONDS, _MOST_LIST_SHARE * timeout))


def _build_retry_priority(tries: int) -> Json:
    """Make Envoy go on to the next member of an aggregate cluster after this many tries."""
    kind = f"{TYPE}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
    config = {"@type": kind, "update_frequency": tries}
    return {"name": "envoy.retry_priorities.previous_priorities", "typed_config": config}
