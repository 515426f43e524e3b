"""A rollout as it runs and as people see it: from a recommender's decision log and what its servers report."""
