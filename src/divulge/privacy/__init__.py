"""What mathematics promises: accounting of a privacy loss, lower bounds from guesses, what an epsilon stops."""
