"""One folder a KFP component: a thin lightweight component over a function of the library."""
