"""One file per table; ``registry`` lists them in the order of docs/results.md."""
