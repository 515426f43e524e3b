"""The sampled log of requests: what a predictor saw and answered, as it can be computed again."""

from endcap.samples.reading import read_catalogue, read_samples
from endcap.samples.sampled_request import SCHEMA, EventSource, SampledRequest

__all__ = ["SCHEMA", "EventSource", "SampledRequest", "read_catalogue", "read_samples"]
