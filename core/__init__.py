"""The mathematics of encoder-audit: no HTTP, no database, no queue."""
