"""A simulated shop: its products, its market, and event logs whose true probabilities are known."""
