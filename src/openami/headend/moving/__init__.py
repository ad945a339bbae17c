"""A head-end's store moved to another engine, and proved row by row (decision 0068)."""
