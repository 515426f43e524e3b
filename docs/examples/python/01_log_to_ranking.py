"""From an event log to a ranking: one method a step.

Run it: python docs/examples/python/01_log_to_ranking.py
"""

import endcap

# A recommender of pipelines/specs. This one simulates its shop's log, so that it needs no files.
project = endcap.open("trial", sets=["search=null"])

print(project.ingest())  # every row is checked; bad rows are set aside and counted
print(project.features())  # sessions, the item table, event features
print(project.train())
print(project.evaluate())  # against baselines, and against the champion once there is one; the gate decides
print(project.refit())  # on all data, as a package that serving reads
print(project.register())  # a version in MLflow

seen = project.query("SELECT item FROM events ORDER BY time DESC LIMIT 2")["item"].to_pylist()
print(project.rank(items=seen, k=5))  # by the same code that answers in production
