"""Uploaded images."""
