"""A client for those who ask for rankings and report what shoppers did."""
