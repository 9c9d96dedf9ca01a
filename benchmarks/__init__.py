"""How fast divulge is, as ratios against the plain operation or a named peer, measured side by side in one run."""
