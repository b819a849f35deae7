"""What an audit says in the end: one JSON document with a published schema, and a page and pictures made from it."""
