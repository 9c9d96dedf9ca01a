"""Networks, one family per file, and their layers."""
