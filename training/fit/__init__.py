"""A training: pairs, batches, the fit itself, and how good its tower is."""
