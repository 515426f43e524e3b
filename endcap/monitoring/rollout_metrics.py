"""Metrics of rollouts: where each stands, what it rests on, and how old that is; and which versions serve."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from prometheus_client.core import Metric

from endcap.deploy.state import POPULARITY, Deployment, find_state
from endcap.experiments.decision_log import DecisionLog
from endcap.experiments.evidence import EffectEvidence, RolloutEvidence
from endcap.experiments.log_entry import RolloutLogEntry
from endcap.experiments.rollout_state import GUARDED, RolloutState
from endcap.monitoring.families import Families
from endcap.spec.rollout import RolloutSpec
from endcap.store import Store

_VERSION = ("recommender", "version")
_METRIC = (*_VERSION, "metric")
_GUARDRAIL = (*_VERSION, "guardrail")
_DECLARED = (
    ("endcap_rollout_info", "1 for the latest rollout", (*_VERSION, "previous_version", "phase", "reason")),
    ("endcap_rollout_share", "Of the shoppers, 0 to 1, as the log has it", _VERSION),
    ("endcap_rollout_running", "1 while the rollout is looked at, 0 when it is over or an A/B test runs", _VERSION),
    ("endcap_rollout_attention", "1 if the last decision says that a person should look", _VERSION),
    ("endcap_rollout_log_entries_total", "Looks, commands and begins of all rollouts", ("recommender",)),
    ("endcap_rollout_begin_timestamp_seconds", "When the rollout began", _VERSION),
    ("endcap_rollout_look_timestamp_seconds", "When the last look was", _VERSION),
    ("endcap_rollout_look_every_seconds", "The policy's look_every", _VERSION),
    ("endcap_rollout_impression_timestamp_seconds", "When the newest impression was seen", _VERSION),
    ("endcap_rollout_max_silence_seconds", "The policy's max_silence", _VERSION),
    ("endcap_rollout_effect", "Relative effect on a metric of shoppers", _METRIC),
    ("endcap_rollout_effect_lower", "Its lower bound, which holds at every look; none where nothing is known", _METRIC),
    ("endcap_rollout_effect_upper", "Its upper bound, which holds at every look; none where nothing is known", _METRIC),
    ("endcap_rollout_shoppers", "Distinct shoppers of an arm", (*_METRIC, "arm")),
    ("endcap_rollout_guardrail_observed", "What the guardrail measures: a rate, or seconds", _GUARDRAIL),
    ("endcap_rollout_guardrail_limit", "What it is held against", _GUARDRAIL),
    ("endcap_rollout_guardrail_evidence", "E-value times budget; 1 is a breach", _GUARDRAIL),
    ("endcap_rollout_guardrail_events", "Requests that it rests on", _GUARDRAIL),
    ("endcap_rollout_sample_ratio_evalue", "Against: shoppers came to the arms as the split says", _VERSION),
    ("endcap_rollout_mismatches", "Rankings of another arm than salt and shopper give", _VERSION),
    ("endcap_rollout_crossed_ratio", "Share of the shoppers who were seen in both arms", _VERSION),
    ("endcap_rollout_problem", "1 for a source that the last look could not read", (*_VERSION, "source")),
    ("endcap_rollout_refused_reports", "Reports that were not counted, by reason", (*_VERSION, "reason")),
    ("endcap_version_online_rate", "Outcomes of an exposure, as the rollout's last look has them", _METRIC),
    ("endcap_deployment_share", "Of the shoppers, 0 to 1, as the desired state has it", (*_VERSION, "variant")),
    ("endcap_deployment_change_timestamp_seconds", "When the desired state last changed", ("recommender",)),
)


class RolloutMetrics:
    """Reads the desired states and the logs' last entries of a store.

    Parameters
    ----------
    store
        The store.
    list_names
        Returns the recommenders.
    """

    def __init__(self, store: Store, list_names: Callable[[], list[str]]) -> None:
        self._store, self._list_names = store, list_names
        self._logs: dict[str, DecisionLog] = {}
        """A log that did not grow since the last scrape is not read again."""
        self._policies: dict[tuple[str, str], RolloutSpec] = {}

    def read(self) -> list[Metric]:
        """Return the metrics. Raises EndcapError for a store that does not answer, or a damaged document."""
        families = Families(_DECLARED)
        for name in self._list_names():
            desired = find_state(name, self._store)
            if desired is not None:
                _add_deployment(families, desired)
            log = self._logs.setdefault(name, DecisionLog(self._store, name))
            if (entry := log.find_last()) is not None:
                families.add("endcap_rollout_log_entries_total", entry.number + 1, name)
                _add_state(families, entry, self._find_policy(log, entry.policy), desired)
        return families.list_metrics()

    def _find_policy(self, log: DecisionLog, digest: str) -> RolloutSpec:
        key = (log.recommender, digest)
        if key not in self._policies:
            self._policies[key] = log.read_policy(digest)
        return self._policies[key]


def _add_deployment(families: Families, state: Deployment) -> None:
    name = state.recommender
    families.add("endcap_deployment_change_timestamp_seconds", state.changed, name)
    # Popularity comes first: the others share whom it leaves, which is nobody while the switch is on.
    popularity = 1.0 if state.switch is not None else state.baseline.share if state.baseline is not None else 0.0
    if popularity:
        families.add("endcap_deployment_share", popularity, name, POPULARITY, "baseline")
    arms = {"stable": (state.stable.version, state.stable_share)}
    arms |= {variant: (arm.version, arm.share) for variant, arm in state.arms.items()}
    for variant, (version, share) in arms.items():
        families.add("endcap_deployment_share", share * (1 - popularity), name, version, variant)


def _add_state(families: Families, entry: RolloutLogEntry, policy: RolloutSpec, desired: Deployment | None) -> None:
    state = entry.after
    # A promoted version's guard rests while an A/B test runs, and after one that had another version win.
    rests = state.phase in GUARDED and desired is not None and not desired.is_settled_on(state.version)
    of = (state.recommender, state.version)
    families.add("endcap_rollout_info", 1, *of, state.previous_version, state.phase, state.reason)
    families.add("endcap_rollout_share", state.share, *of)
    families.add("endcap_rollout_running", not state.is_over and not rests, *of)
    families.add("endcap_rollout_attention", entry.decision is not None and entry.decision.alert, *of)
    families.add("endcap_rollout_begin_timestamp_seconds", state.created, *of)
    families.add("endcap_rollout_look_timestamp_seconds", state.looked or state.created, *of)
    families.add("endcap_rollout_look_every_seconds", policy.look_every.total_seconds(), *of)
    families.add("endcap_rollout_max_silence_seconds", policy.max_silence.total_seconds(), *of)
    if entry.evidence is not None:
        _add_evidence(families, of, entry.evidence, policy.guardrail_budgets)
        for effect in entry.evidence.effects:
            _add_effect(families, of, effect, state, entry.evidence)


def _add_evidence(
    families: Families, of: tuple[str, str], evidence: RolloutEvidence, budgets: Mapping[str, float]
) -> None:
    families.add("endcap_rollout_impression_timestamp_seconds", evidence.impressions_until, *of)
    families.add("endcap_rollout_sample_ratio_evalue", evidence.sample_ratio, *of)
    families.add("endcap_rollout_mismatches", evidence.mismatches, *of)
    families.add("endcap_rollout_crossed_ratio", evidence.crossed, *of)
    for source in evidence.problems:
        families.add("endcap_rollout_problem", 1, *of, source)
    for reason, count in evidence.refusals.items():
        families.add("endcap_rollout_refused_reports", count, *of, reason)
    for guardrail in evidence.guardrails:
        name = guardrail.guardrail
        families.add("endcap_rollout_guardrail_observed", guardrail.observed, *of, name)
        families.add("endcap_rollout_guardrail_limit", guardrail.reference, *of, name)
        families.add("endcap_rollout_guardrail_evidence", guardrail.e_value * budgets.get(name, 0.0), *of, name)
        families.add("endcap_rollout_guardrail_events", guardrail.events, *of, name)


def _add_effect(
    families: Families, of: tuple[str, str], effect: EffectEvidence, state: RolloutState, evidence: RolloutEvidence
) -> None:
    families.add("endcap_rollout_effect", effect.effect, *of, effect.metric)
    for name, bound in (("lower", effect.lower), ("upper", effect.upper)):
        families.add(f"endcap_rollout_effect_{name}", bound if math.isfinite(bound) else None, *of, effect.metric)
    for arm, shoppers in effect.shoppers.items():
        families.add("endcap_rollout_shoppers", shoppers, *of, effect.metric, arm)
    # A rate that adds up several shares over time would mix days with others (Simpson's paradox). The stable version's
    # rate times the effect does not.
    if evidence.against == "stable" and effect.exposures.get("stable"):
        before = (state.recommender, state.previous_version)
        families.add("endcap_version_online_rate", effect.stable_rate, *before, effect.metric)
        if effect.exposures.get(evidence.arm):
            rate = effect.stable_rate * (1 + effect.effect)
            families.add("endcap_version_online_rate", rate, *of, effect.metric)
