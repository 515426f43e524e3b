"""What the log holds: bad rows by reason, tables as frames, and SQL over a snapshot and a dataset.

Run it: python docs/examples/python/03_look_at_data.py
"""

import endcap

project = endcap.open("trial")
snapshot, dataset = project.ingest(), project.features()

print(snapshot.bad)  # rows that were set aside, by table and reason
print(dataset.tables())
print(dataset.to_pandas("items").head())

by_hour = project.query(
    """
    SELECT date_trunc('hour', make_timestamp(time * 1000)) AS hour, count(*) AS events
    FROM events GROUP BY ALL ORDER BY events DESC LIMIT 3
    """
)
print(by_hour.to_pandas())

# Files and frames of your own go into the store, and their address into a shop's spec.
address = project.put(by_hour, "reports/busy-hours")
print(project.get(address, "busy-hours.parquet"))
