"""What protects a model, one defense per file."""
