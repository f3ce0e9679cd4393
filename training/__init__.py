"""Data, recipes, objectives, the fit loop, evaluation and export."""
