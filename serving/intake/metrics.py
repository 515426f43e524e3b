"""The intake's metrics for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

REQUESTS = Counter("endcap_intake_requests_total", "Requests by path and status.", ["path", "status"])
ACCEPTED = Counter("endcap_intake_accepted_total", "Records that are durable and had a new id.", ["kind"])
DUPLICATES = Counter("endcap_intake_duplicates_total", "Records whose id was accepted in the last 24 hours.", ["kind"])
REJECTED = Counter("endcap_intake_rejected_total", "Records that were refused; the answer lists each.", ["kind"])
REQUEST_TIME = Histogram("endcap_intake_request_seconds", "From a request's head to its answer.", buckets=LATENCIES)
COMMIT = Histogram("endcap_intake_commit_seconds", "Writing and flushing a group of requests.", buckets=LATENCIES)
FAILED = Counter("endcap_intake_failed_commits_total", "Groups that could not be written; their requests got a 503.")
OPEN_BYTES = Gauge("endcap_intake_open_segment_bytes", "Size of the open segment.")
SEALED = Counter("endcap_intake_sealed_segments_total", "Segments that were sealed to Parquet.")
SEALING_FAILED = Counter("endcap_intake_failed_sealings_total", "Failed attempts to seal a segment; it is tried again.")
SEALING_WAITING = Gauge("endcap_intake_closed_segments", "Closed segments that are not sealed to Parquet yet.")
SEALING_LAG = Gauge(
    "endcap_intake_sealing_lag_seconds", "Seconds since the oldest of these was closed; 0 if there is none."
)
DAMAGED = Counter("endcap_intake_damaged_segments_total", "Segments that the disk has changed.")
CUT_TAILS = Counter(
    "endcap_intake_cut_tails_total", "Tails of segments that a kill or a full disk tore; they were cut off."
)
KEPT = Gauge("endcap_intake_kept_bytes", "Size of damaged segments and cut tails that are kept for a person.")
DAMAGED_IDS = Counter("endcap_intake_damaged_ids_total", "Files of ids that the disk has changed.")
UNTIDY = Counter("endcap_intake_failed_tidyings_total", "Failed attempts to merge or forget ids; they are tried again.")
ONLINE_WAITING = Gauge("endcap_intake_online_waiting", "Records that the online store does not have yet.")
ONLINE_LAG = Gauge(
    "endcap_intake_online_lag_seconds", "Seconds since the oldest of these became durable; 0 if there is none."
)
ONLINE_DROPPED = Counter("endcap_intake_online_dropped_total", "Records that the online store never got.")
ONLINE_UNREADABLE = Counter(
    "endcap_intake_online_unreadable_total", "Keys of the online store that hold other data, by reason.", ["reason"]
)
ONLINE_FAILED = Counter("endcap_intake_online_failures_total", "Calls to the online store that failed.")
