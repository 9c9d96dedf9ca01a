"""How targets and shadow models are trained."""
