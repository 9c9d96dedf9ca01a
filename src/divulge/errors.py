"""What divulge raises: each message says what was expected, what came, and what to do."""


class DivulgeError(Exception):
    """Base of every error that divulge raises on purpose; the command line prints it without a traceback."""


class BadInputError(DivulgeError, ValueError):
    """A value, shape or dtype that no number may be computed from."""


class MissingDataError(DivulgeError, FileNotFoundError):
    """A data set that is not on this machine; the message says where to get it and where to put it."""


class MissingExtraError(DivulgeError, ImportError):
    """An optional dependency that is not installed; the message names the extra that brings it."""


class StoreError(DivulgeError, RuntimeError):
    """A run folder that cannot be used as it is: unwritable, from another version, or damaged."""


class StepError(DivulgeError, RuntimeError):
    """A step of a run that failed, or whose worker process kept dying; the original error is its cause."""


class EndpointError(DivulgeError, ConnectionError):
    """A model behind a network endpoint that did not answer as its protocol demands."""
