"""Uploaded encoders."""
