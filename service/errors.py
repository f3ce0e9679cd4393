"""What can go wrong for a caller, without a word of HTTP.

Each message says what was wrong, what was expected, and how to mend it.
"""


class ServiceError(Exception):
    """Any fault that is told to the caller."""


class MalformedError(ServiceError):
    """The body is not what its type says it is."""


class UnknownModelError(ServiceError):
    """No such model or version is served."""


class UnknownJobError(ServiceError):
    """No such job is kept."""


class PendingJobError(ServiceError):
    """A job has no result.

    Args:
        message: for the caller.
        retry_after_s: after how many seconds to ask again; None where it will never have one.
    """

    def __init__(self, message: str, retry_after_s: int | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CapabilityError(ServiceError):
    """The model cannot do what was asked of it."""


class TooLargeError(ServiceError):
    """The request is over one of the limits."""


class ParameterError(ServiceError):
    """An option or the geometry of an array does not fit the model."""


class OverloadedError(ServiceError):
    """The queue is full.

    Args:
        message: for the caller.
        retry_after_s: after how many seconds to come again.
    """

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(ServiceError):
    """The service is loading, draining, or its worker has died."""


class DeadlineError(ServiceError):
    """The answer was not ready within the deadline."""


class DeviceError(ServiceError):
    """The device that the settings demand is not there or does not work."""


class ConfigurationError(ServiceError):
    """The settings, or a file that they name, keep the service from starting."""


class UnauthorizedError(ServiceError):
    """The caller has shown no key, or one that is not known."""


class RateLimitedError(OverloadedError):
    """The caller asks more often than it may."""


class ForbiddenError(ServiceError):
    """The settings do not let callers do that."""


class VerificationError(ServiceError):
    """What was coded did not read as what it was made of, before it was given away: a fault of the service."""


class InexactError(CapabilityError):
    """The model has exact networks, and the runtime does not reproduce them."""


class UnknownPriorError(UnknownModelError):
    """The model is served, with another exact prior than codes were written under."""


class LoadError(ServiceError):
    """A model could not be loaded; what was served is served still."""
