"""The HTTP API: one router per noun. `waserver.api` puts them under /api/v1."""
