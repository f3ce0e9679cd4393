"""The command line without a server: files to containers, containers to files, and what a container says."""
