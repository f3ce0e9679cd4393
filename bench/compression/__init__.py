"""What coding under exact priors is worth, and that it is the same everywhere: one script a claim."""
