"""Hands a share of the rankings to the writer of request samples. An answer never waits for it."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Sequence
from typing import Literal, get_args

from endcap.pseudonyms import KEY, read_pseudonymiser
from endcap.ranking import RankRequest
from endcap.samples.choice import SampleChoice
from endcap.samples.observation import Observation
from endcap.samples.places import open_place
from endcap.samples.writer import SampleOutcome, SampleWriter, WriterLimits
from endcap.spec.serving import SAMPLES, SamplesSpec
from endcap_serving.predictor.engine import RankedAnswer, ServedVersion, format_ranking_id
from endcap_serving.predictor.metrics import Metrics

MissingPart = Literal["no-place", "no-key"]
"""Why nothing is sampled although the recommender asks for it."""
log = logging.getLogger("endcap.predictor")


class RequestSampler:
    """Samples the rankings of one engine.

    Parameters
    ----------
    served
        What answers.
    choice
        Which rankings are sampled.
    writer
        Writes them; or why there is no writer. Rankings are then only counted.
    metrics
        The predictor's metrics. While they pause, for the warm-up, nothing is sampled.
    """

    def __init__(
        self, served: ServedVersion, choice: SampleChoice, writer: SampleWriter | MissingPart, metrics: Metrics
    ) -> None:
        self._served, self._choice, self._writer, self._metrics = served, choice, writer, metrics

    def sample(self, token: str, variant: str, requests: Sequence[RankRequest], ranked: Sequence[RankedAnswer]) -> None:
        """Hand over the rankings of a call that are chosen. Does not wait.

        Parameters
        ----------
        token
            What the ids of the rankings begin with.
        variant
            The variant that answers.
        requests, ranked
            The call's requests as they were ranked, and their answers.
        """
        if not self._metrics.is_counting:
            return
        for number, (request, answer) in enumerate(zip(requests, ranked, strict=True)):
            ranking_id = format_ranking_id(token, number)
            if not self._choice.is_chosen(ranking_id):
                continue
            if isinstance(self._writer, str):
                self._metrics.count_samples(self._writer, 1)
            elif not self._choice.admit():
                self._writer.count("over-limit")
            else:
                self._writer.offer(
                    Observation(
                        ranking_id,
                        number,
                        self._served.version,
                        variant,
                        answer.time,
                        request,
                        answer.context,
                        answer.answer,
                        answer.degraded,
                        answer.catalogue,
                    )
                )

    def close(self) -> None:
        """Write what was sampled. Waits some seconds at most."""
        if not isinstance(self._writer, str):
            self._writer.close()


def open_sampler(
    served: ServedVersion, samples: SamplesSpec, address: str, metrics: Metrics, seconds: float
) -> RequestSampler | None:
    """Open the sampler that a recommender's spec asks for.

    Parameters
    ----------
    served
        What answers.
    samples
        The recommender's `serving.samples`.
    address
        Where samples go; empty: nowhere.
    metrics
        The predictor's metrics.
    seconds
        The age at which a file is closed.

    Returns
    -------
    RequestSampler or None
        The sampler; None if the share is 0.

    Raises
    ------
    UserError
        The key of the pseudonyms is too short.
    """
    if not samples.share:
        return None
    for outcome in (*get_args(SampleOutcome), *get_args(MissingPart)):
        # Prometheus sees no increase in a counter that begins above 0.
        metrics.count_samples(outcome, 0)
    choice = SampleChoice(samples.share, samples.most_per_second)
    pseudonymiser = read_pseudonymiser()
    if not address or pseudonymiser is None:
        missing: MissingPart = "no-key" if address else "no-place"
        log.warning(
            "requests are not sampled, although serving.samples asks for it",
            extra={"reason": missing, "variable": KEY if address else SAMPLES},
        )
        return RequestSampler(served, choice, missing, metrics)
    instance = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    writer = SampleWriter(
        lambda: open_place(address),
        served.name,
        instance,
        pseudonymiser,
        keep=samples.keep,
        count=metrics.count_samples,
        limits=WriterLimits(seconds=seconds),
    )
    log.info("requests are sampled", extra={"share": samples.share, "to": address, "key": pseudonymiser.key_id})
    return RequestSampler(served, choice, writer, metrics)
