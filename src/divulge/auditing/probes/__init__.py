"""The questions an audit asks, one family of attacks per file."""
