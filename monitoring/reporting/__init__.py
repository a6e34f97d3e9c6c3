"""The report: how the server did in a stretch of time. Gathered from rows in a bounded number of queries."""
