"""The store and the registry of a compiled package, unless a run's parameters name others."""

STORE = "s3://endcap/store"
"""Bucket `endcap`, at the endpoint that the Secret `pipeline.secret` names."""
REGISTRY = "http://endcap-mlflow.endcap.svc.cluster.local:5000"
"""MLflow of the chart's release `endcap` in the namespace `endcap`."""
