"""What a recommender's InferenceService says of the desired state, whichever transition is under way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from endcap.deploy.kill_switch import choose_switch_mark
from endcap.deploy.stand_ins import is_ending_ab
from endcap.deploy.state import Deployment
from endcap.deploy.variants import LAYOUT, POPULARITY_ONLY, SALT, WITHDRAWN, settings_to_annotations


def make_state_marks(desired: Deployment, live: Mapping[str, Any] | None) -> dict[str, str]:
    """Make the annotations that gateways follow at once, since none of them waits for pods.

    Parameters
    ----------
    desired
        The desired state.
    live
        The InferenceService as it is; None: there is none.
    """
    layout = "" if desired.ab is None else json.dumps(desired.ab.layout.to_json(), separators=(",", ":"))
    if live is not None and is_ending_ab(desired, live):
        layout = live["metadata"]["annotations"][LAYOUT]
    return {
        SALT: desired.salt,
        POPULARITY_ONLY: choose_switch_mark(desired, live),
        WITHDRAWN: desired.withdrawn or "",
        LAYOUT: layout,
        **settings_to_annotations(desired.gateway_terms),
    }
