"""A/B tests of several versions as they run, and as people see them."""
