"""Let trials find a model's settings.

Run it: python docs/examples/python/05_search.py
"""

import pandas as pd

import endcap

project = endcap.open("trial")
project.ingest()
project.features()

# The spec may say this in its section `search`; arguments override it. Each trial is judged on the validation part.
trained = project.search(trials=4, time_budget="2m", fixed=["sample"])
print(trained.model)  # the best settings
print(pd.DataFrame(trained.trials))
print(project.evaluate(trained))  # on the test part, which no trial has seen
print(project.experiments()[["run", "status"]].head())  # MLflow has every trial
