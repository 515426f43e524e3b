"""What differs by engine: how declared steps are kept, read and written. A module for each engine."""
