"""The engine: models in memory and the work that their graphs do, without a word of HTTP."""
