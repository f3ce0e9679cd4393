"""The same graph behind other frameworks: a picture's raw bytes in, the raw bytes of the graph's output out.

Each module runs in its framework's own environment, with the framework's own dynamic batching, and takes the words
`GRAPH OUTPUT THREADS PORT`.
"""
