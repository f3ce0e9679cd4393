"""What can go wrong offline; each message says what was wrong, what was expected, and how to mend it."""


class TrainingError(Exception):
    """Any fault that the command line tells in one line."""


class DataError(TrainingError):
    """A data set cannot be had or read."""


class RecipeError(TrainingError):
    """A recipe is not one that can be run."""


class RunError(TrainingError):
    """A run's folder is missing, incomplete or in the way."""


class ExportError(TrainingError):
    """A model cannot be published."""
