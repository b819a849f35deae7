"""Audits: submit, follow, read the result, cancel."""
