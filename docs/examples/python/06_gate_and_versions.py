"""The gate decides whether a model becomes a version; the registry says which data made which version.

Run it: python docs/examples/python/06_gate_and_versions.py
"""

import endcap

project = endcap.open("trial", sets=["search=null"])
project.ingest()
project.features(until="2026-03-14")  # as if it were two days ago

strict = project.replace(gate=[{"metric": "mrr@20", "against": "popularity", "compare": "ratio", "min": 1000}])
verdict = strict.evaluate(strict.train())
print(verdict.passed, [condition["text"] for condition in verdict.conditions])
try:
    strict.refit()
except endcap.UserError as error:
    print(error.code, error)

project.evaluate(project.train())
project.refit()
version = project.register()
print(version)
print(project.deploy(version))  # the wanted state; `endcap serve trial` follows it
print(project.versions())
