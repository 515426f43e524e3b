"""Metrics of a model beside the champion's and the baselines', and the gate's decision.

Who does what:

- `judge` makes a verdict: it loads the models, has them measured, and decides the gate.
- `compare` measures several models without a gate.
- `protocol` asks all models the same queries; `scoring` and `ranks` rank; `metrics` has the formulas.
- `model_metrics` holds one model's metrics by session; `results` puts all models' side by side, with intervals.
- `gate` decides the conditions, and `evidence` whether the test is large enough to decide.
"""

from endcap.evaluation.judge import judge
from endcap.evaluation.verdict_text import describe_verdict

__all__ = ["describe_verdict", "judge"]
