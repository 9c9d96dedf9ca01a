"""The run store, engines and progress."""
