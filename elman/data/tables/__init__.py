"""Tables: CSV, TSV, JSON lines, parquet."""
