"""The Open Inference Protocol, version 2: every graph of every model as it is, under `/v2`."""
