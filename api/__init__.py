"""The service over HTTP: it owns the record of every audit and never computes one (no torch here)."""
