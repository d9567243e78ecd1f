"""Taking recordings in: finding them, reading their bytes once, recording each call exactly once."""
