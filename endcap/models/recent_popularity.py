"""Items by their number of events in the last days of the training data."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from endcap.features.sessions import Sessions
from endcap.models.popularity import Popularity
from endcap.spec.model import RecentPopularitySpec


class RecentPopularity(Popularity):
    """The same ranking for all sessions. Items without recent events come last, in vocabulary order (by all events)."""

    name = "recent-popularity"
    specification = RecentPopularitySpec

    def select_events(self, train: Sessions) -> NDArray[np.int32]:
        window = self.parameters.window // timedelta(milliseconds=1)
        return train.items[train.times > train.times.max() - window] if len(train.items) else train.items
