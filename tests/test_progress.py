"""Lines of progress that say how much is done."""

from __future__ import annotations

import pickle

from endcap.progress import Advance


def test_a_line_comes_from_a_worker_as_it_was() -> None:
    sent = Advance("epoch 3 of 10", done=3, whole=10)
    line = pickle.loads(pickle.dumps(sent))
    assert (line, line.done, line.whole) == ("epoch 3 of 10", 3, 10)
