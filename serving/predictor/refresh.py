"""The catalogue in use follows the published one, so rules and item attributes change without a restart."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from endcap.errors import EndcapError, OnlineStoreError
from endcap.online import OnlineStore
from endcap.rules import Catalogue, fetch_catalogue
from endcap_serving.json_log import make_log_fields
from endcap_serving.log_limiter import LogLimiter
from endcap_serving.predictor.engine import Engine
from endcap_serving.predictor.metrics import Metrics

EVERY = 5.0
"""Seconds between two checks."""
log = logging.getLogger("endcap.predictor")


class CatalogueRefresh:
    """Checks for a new catalogue, and gives each engine a ranker with it, in one assignment.

    A published catalogue that cannot be used is refused. The one before stays in use, and a log line and a metric say
    so.

    Parameters
    ----------
    store
        The online store with the catalogue.
    engines
        The engines that use the catalogue.
    metrics
        The predictor's metrics.
    every
        Seconds between two checks.
    """

    def __init__(self, store: OnlineStore, engines: Sequence[Engine], metrics: Metrics, every: float = EVERY) -> None:
        self._store = store
        self._engines = engines
        self._metrics = metrics
        self._every = every
        self._catalogue: Catalogue | None = None
        self._refused_reason: str | None = None
        self._log_unreachable = LogLimiter(
            log, logging.WARNING, "the catalogue cannot be looked for: the online store is away"
        )
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refresh", daemon=True)

    def start(self) -> None:
        """Check once, so that the first ranking already follows today's rules, and then again and again."""
        self.refresh()
        self._thread.start()

    def close(self) -> None:
        self._end.set()

    def refresh(self) -> None:
        """Check once. Raises nothing, because the next check follows."""
        try:
            catalogue = fetch_catalogue(self._store, self._catalogue)
            if catalogue is not None and catalogue is not self._catalogue:
                self._apply(catalogue)
            self._refused_reason = None
        except OnlineStoreError as error:
            self._metrics.count_refresh("unreachable")
            self._log_unreachable(**make_log_fields(error))
        except Exception as error:  # The catalogue is damaged, or does not fit the served package.
            self._refuse(error)
        if self._catalogue is not None:
            self._metrics.set_catalogue_age(time.time() - self._catalogue.read_time / 1000)

    def _apply(self, catalogue: Catalogue) -> None:
        if self._catalogue is None or self._catalogue.version != catalogue.version:
            rankers = [engine.ranker.with_catalogue(catalogue) for engine in self._engines]
            for engine, ranker in zip(self._engines, rankers, strict=True):
                engine.ranker = ranker
                self._metrics.surfaces.add_known(ranker.rulebook.surfaces)
            self._metrics.count_refresh("taken")
            log_fields = {
                "catalogue": catalogue.version,
                "items": catalogue.items.num_rows,
                "blacklist": len(catalogue.blacklist),
            }
            log.info("a new catalogue is in use", extra={**log_fields, "made": catalogue.read_time})
        self._catalogue = catalogue

    def _refuse(self, error: Exception) -> None:
        self._metrics.count_refresh("refused")
        if str(error) != self._refused_reason:
            self._refused_reason = str(error)
            traced_error = error if not isinstance(error, EndcapError) else None
            version_in_use = self._catalogue.version if self._catalogue else "the package's own"
            log.error(
                "the published catalogue is refused",
                exc_info=traced_error,
                extra={**make_log_fields(error), "kept": version_in_use},
            )

    def _run(self) -> None:
        while not self._end.wait(self._every):
            try:
                self.refresh()
            except Exception:  # Metrics or log failed, for example on a full disk. The next check may succeed.
                log.exception("a check for a new catalogue failed")
