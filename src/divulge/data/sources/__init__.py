"""One file for each kind of place that records come from; each has `parts(path)` and `read(path, ...)`."""
