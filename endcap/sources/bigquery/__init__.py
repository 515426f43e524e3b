"""BigQuery as a source: tables, views and queries become rows that the table reader takes as it takes a file's.

`columns` says which columns and subfields a run needs, `partitions` which days, `compile` writes the SQL, `client` asks
the warehouse, `errors` says what it refused, `tables` and `results` find what to read, and `read` reads its streams.
"""
