"""What can go wrong on the command line besides what can go wrong in the service."""


class UsageError(Exception):
    """The words of the command do not go together, or not with the files that there are."""
