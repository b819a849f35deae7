"""The only place where record and mathematics meet: takes audits from the queue and runs them with ``core``."""
