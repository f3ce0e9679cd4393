"""How good a run is beside others: foreign codecs on the same files, and a classifier's eyes and ears."""
