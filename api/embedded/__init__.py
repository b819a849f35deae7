"""Everything the service needs as one tree of processes on one machine, from wheels: ``encoder-audit serve``."""
