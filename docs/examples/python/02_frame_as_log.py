"""A frame is the event log: pandas, Polars, Arrow, or a stream of Arrow batches.

Run it: python docs/examples/python/02_frame_as_log.py
"""

import pandas as pd

import endcap

# Any frame will do. This one repeats three visits, so that there is something to learn.
visits = [["tent", "stove", "lamp"], ["boots", "socks"], ["tent", "mat", "lamp"]]
start = pd.Timestamp("2026-03-01", tz="UTC")
rows = [
    {"visit": f"v{number}", "product": item, "at": start + pd.Timedelta(hours=number, minutes=place)}
    for number in range(300)
    for place, item in enumerate(visits[number % 3])
]
log = pd.DataFrame(rows)

project = endcap.open(
    {
        "shop": {"name": "camping", "events": {"columns": {"session": "visit", "item": "product", "time": "at"}}},
        "recommender": {"model": {"name": "sequential-rules"}, "gate": []},
    },
    events=log,
)
print(project.ingest())
project.features()
project.evaluate(project.train())
project.refit()

ranking = project.rank(items=["tent"], k=3)
print(ranking)
frame = ranking.to_pandas()  # to_polars() and to_arrow() give the same rows
print(frame["item"].tolist())
