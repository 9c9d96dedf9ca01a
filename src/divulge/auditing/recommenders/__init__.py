"""The audit of a federated recommender: what the update of one of its users gives away."""
