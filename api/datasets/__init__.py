"""Uploaded archives of images."""
