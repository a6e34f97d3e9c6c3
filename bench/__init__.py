"""What waserver costs and how fast it is, measured on the real parts. Each script prints one JSON line on stdout."""
