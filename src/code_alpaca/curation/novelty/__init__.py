"""Find near-duplicate tasks exactly, with a growing index."""
