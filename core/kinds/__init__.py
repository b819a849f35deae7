"""What a user can ask for: one kind of audit per file, each a short sequence of methods."""
