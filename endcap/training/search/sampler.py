"""Suggests which settings to try next, and computes how much each parameter matters.

Suggestions are those of Optuna's tree-structured Parzen estimator over a model's domains (Bergstra et al., 2011;
multivariate: Falkner et al., 2018). Importances are those of PED-ANOVA (Watanabe et al., 2023).
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from endcap.spec.space import Between, Domain
from endcap.spec.tunable import Values
from endcap.training.search.record import Trial

_TRIES = 25
"""Samples drawn for one trial before the space counts as tried out."""
_RANDOM_SHARE = 4
"""A quarter of the trials, and ten at most, are drawn at random before the estimator is asked."""
MIN_IMPORTANCE_TRIALS = 8
_TOP = 0.25
"""Importance tells what sets the best quarter of the trials apart."""


class Sampler:
    """An Optuna study of one search.

    All that is random in the n-th suggestion comes from the seed and n, so that a killed search continues as it would
    have.

    Parameters
    ----------
    domains
        The values that each parameter may have.
    base
        The model's own values, which count where a setting says nothing.
    seed
        The recommender's seed.
    trials
        Number of trials in all.
    """

    def __init__(self, domains: Mapping[str, Domain], base: Values, seed: int, trials: int) -> None:
        self._domains = dict(domains)
        self._base = {name: base.get(name) for name in domains}
        self._seed = seed
        self._random = min(10, max(3, trials // _RANDOM_SHARE))
        self._pending: dict[int, Any] = {}
        self._tried: set[str] = set()
        with _silence_optuna():
            import optuna

            self._distributions = {name: _make_distribution(domain) for name, domain in domains.items()}
            self._study = optuna.create_study(direction="maximize")

    def suggest(self, number: int) -> Values | None:
        """Return a new setting for the trial of this number; None: there is none left."""
        import optuna

        with _silence_optuna():
            for attempt in range(_TRIES):
                seed = int(np.random.default_rng([self._seed, number, attempt]).integers(2**31))
                # Where the estimator repeats itself, chance finds what is left.
                self._study.sampler = (
                    optuna.samplers.TPESampler(
                        seed=seed, multivariate=True, constant_liar=True, n_startup_trials=self._random
                    )
                    if attempt < _TRIES // 5
                    else optuna.samplers.RandomSampler(seed=seed)
                )
                trial = self._study.ask(self._distributions)
                values = {name: _decode(self._domains[name], trial.params[name]) for name in self._domains}
                if self._add_setting(values):
                    self._pending[number] = trial
                    return values
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return None

    def add_point(self, number: int, values: Values) -> None:
        """Add a setting that is tried without being suggested. The study ignores one outside the domains.

        Parameters
        ----------
        number
            The trial's number.
        values
            Its setting.
        """
        self._add_setting(values)
        full = {**self._base, **values}
        if all(domain.holds(full[name]) for name, domain in self._domains.items()):
            with _silence_optuna():
                self._study.enqueue_trial({name: _encode(self._domains[name], full[name]) for name in self._domains})
                self._pending[number] = self._study.ask(self._distributions)

    def add_known(self, trial: Trial) -> None:
        """Add a trial of an earlier attempt with its outcome."""
        self.add_point(trial.number, trial.parameters)
        for row in trial.history:
            if "validation" in row:
                self.report_epoch(trial.number, int(row["epoch"]), row["validation"])
        self.end_trial(trial.number, trial.state, trial.value)

    def report_epoch(self, number: int, epoch: int, value: float) -> None:
        """Report a running trial's value after an epoch."""
        if number in self._pending and np.isfinite(value):
            with _silence_optuna():
                self._pending[number].report(value, epoch)

    def end_trial(self, number: int, state: str, value: float | None) -> None:
        """Report a trial's outcome. Stopped trials rank below all that ended, and a later stop ranks higher."""
        import optuna

        states = optuna.trial.TrialState
        trial = self._pending.pop(number, None)
        if trial is not None:
            with _silence_optuna():
                if state == "complete" and value is not None:
                    self._study.tell(trial, value)
                else:
                    self._study.tell(trial, state=states.PRUNED if state in ("pruned", "cut") else states.FAIL)

    def _add_setting(self, values: Values) -> bool:
        text = json.dumps({**self._base, **values}, sort_keys=True)
        if text in self._tried:
            return False
        self._tried.add(text)
        return True


def compute_importances(domains: Mapping[str, Domain], base: Values, trials: Sequence[Trial]) -> dict[str, float]:
    """Compute how much each parameter decides whether a trial is among the best.

    A pruned trial counts with what it reached: it was stopped because that was low. A trial that was cut off does not
    count: it was stopped for lack of time.

    Parameters
    ----------
    domains
        The values that each parameter may have.
    base
        The model's own values.
    trials
        The trials.

    Returns
    -------
    dict
        Shares with sum 1 by parameter, the largest first; empty if there are too few trials.
    """
    settings = [(trial, {**{name: base.get(name) for name in domains}, **trial.parameters}) for trial in trials]
    usable = [
        (trial, values)
        for trial, values in settings
        if trial.value is not None and all(domain.holds(values[name]) for name, domain in domains.items())
    ]
    if len(usable) < MIN_IMPORTANCE_TRIALS or len({trial.value for trial, _ in usable}) < 2:
        return {}
    with _silence_optuna():
        import optuna

        distributions = {name: _make_distribution(domain) for name, domain in domains.items()}
        study = optuna.create_study(direction="maximize")
        for trial, values in usable:
            encoded = {name: _encode(domain, values[name]) for name, domain in domains.items()}
            study.add_trial(optuna.trial.create_trial(value=trial.value, params=encoded, distributions=distributions))
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=_TOP)
        importances = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: round(float(share), 4) for name, share in importances.items()}


def _make_distribution(domain: Domain) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(domain, Between):
        if domain.integer:
            return IntDistribution(int(domain.low), int(domain.high), log=domain.log)
        return FloatDistribution(domain.low, domain.high, log=domain.log)
    return CategoricalDistribution([_to_text(value) for value in domain.values])


def _decode(domain: Domain, encoded: Any) -> Any:
    return encoded if isinstance(domain, Between) else json.loads(encoded)


def _encode(domain: Domain, value: Any) -> Any:
    if isinstance(domain, Between):
        return int(value) if domain.integer else float(value)
    # 64 and 64.0 are equal, and only one of them is among the texts.
    return _to_text(next(value_of_domain for value_of_domain in domain.values if value_of_domain == value))


def _to_text(value: Any) -> str:
    """Return a value as text: it may be a list, which Optuna's categories may not be."""
    return json.dumps(value, sort_keys=True)


@contextlib.contextmanager
def _silence_optuna() -> Iterator[None]:
    """Silence Optuna, which reports each trial, and warns of its own experimental parts."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
