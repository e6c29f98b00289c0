"""Tasks on scans: each a thin composition of the prior with a model of how the picture came about."""
