"""The catalogue in use follows the one that is published: rules and item attributes change without a restart."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from endcap.errors import EndcapError, OnlineStoreError
from endcap.online import OnlineStore
from endcap.rules import Catalogue, fetch_catalogue
from endcap_serving.json_log import log_fields_of
from endcap_serving.log_limiter import LogLimiter
from endcap_serving.predictor.engine import Engine
from endcap_serving.predictor.metrics import Metrics

EVERY = 5.0
"""Seconds between two looks."""
log = logging.getLogger("endcap.predictor")


class CatalogueRefresh:
    """Looks for a new catalogue, and gives each engine a ranker that keeps it, in one assignment.

    What is published and cannot be used is refused: the one before stays in use, and log and metric say so.
    """

    def __init__(self, store: OnlineStore, engines: Sequence[Engine], metrics: Metrics, every: float = EVERY) -> None:
        self._store = store
        self._engines = engines
        self._metrics = metrics
        self._every = every
        self._have: Catalogue | None = None
        self._refused: str | None = None
        self._away = LogLimiter(log, logging.WARNING, "the catalogue cannot be looked for: the online store is away")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refresh", daemon=True)

    def start(self) -> None:
        """Look once, so that the first ranking keeps the rules of today, and from then on now and then."""
        self.look()
        self._thread.start()

    def close(self) -> None:
        self._end.set()

    def look(self) -> None:
        """One look. Raises nothing: a look that fails is followed by another."""
        try:
            catalogue = fetch_catalogue(self._store, self._have)
            if catalogue is not None and catalogue is not self._have:
                self._take(catalogue)
            self._refused = None
        except OnlineStoreError as error:
            self._metrics.refreshed("unreachable")
            self._away(**log_fields_of(error))
        except Exception as error:  # a damaged catalogue, or one that does not fit what is served
            self._refuse(error)
        if self._have is not None:
            self._metrics.catalogue_age(time.time() - self._have.read_time / 1000)

    def _take(self, catalogue: Catalogue) -> None:
        if self._have is None or self._have.version != catalogue.version:
            rankers = [engine.ranker.with_catalogue(catalogue) for engine in self._engines]
            for engine, ranker in zip(self._engines, rankers, strict=True):
                engine.ranker = ranker
                self._metrics.surfaces.know(ranker.rulebook.surfaces)
            self._metrics.refreshed("taken")
            log_fields = {
                "catalogue": catalogue.version,
                "items": catalogue.items.num_rows,
                "blacklist": len(catalogue.blacklist),
            }
            log.info("a new catalogue is in use", extra={**log_fields, "made": catalogue.read_time})
        self._have = catalogue

    def _refuse(self, error: Exception) -> None:
        self._metrics.refreshed("refused")
        if str(error) != self._refused:
            self._refused = str(error)
            known = error if not isinstance(error, EndcapError) else None
            kept = self._have.version if self._have else "the package's own"
            log.error(
                "the published catalogue is refused", exc_info=known, extra={**log_fields_of(error), "kept": kept}
            )

    def _run(self) -> None:
        while not self._end.wait(self._every):
            try:
                self.look()
            except Exception:  # Of the metrics or the log, as on a full disk: the next look may go well.
                log.exception("a look for a new catalogue failed")
