"""What a recommender's InferenceService says of the desired state, whichever transition is under way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from endcap.deploy.kill_switch import choose_switch_mark
from endcap.deploy.state import Deployment
from endcap.deploy.variants import POPULARITY_ONLY, SALT, settings_to_annotations


def make_state_marks(desired: Deployment, live: Mapping[str, Any] | None) -> dict[str, str]:
    """Make the annotations that gateways follow at once, since none of them waits for pods.

    Parameters
    ----------
    desired
        The desired state.
    live
        The InferenceService as it is; None: there is none.
    """
    return {
        SALT: desired.salt,
        POPULARITY_ONLY: choose_switch_mark(desired, live),
        **settings_to_annotations(desired.gateway_terms),
    }
