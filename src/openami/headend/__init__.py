"""The operator's side: receives, judges, stores, and answers what a meter said."""
