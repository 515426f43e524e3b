"""Files as rows of text: CSV, JSON and Parquet, any encoding and compression, and nested values as columns."""
