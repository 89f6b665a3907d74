"""Errors that end the program with an exit code of the contract. Imports no package."""

import errno

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
EVALUATING = (
    "while evaluating"  # the note of an error there: what training has room for may not fit
)
NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)


class DltrainError(Exception):
    """An expected end: the message is what the user reads after `dltrain: error: `."""

    exit_code = 1


class UserError(DltrainError):
    """The user can mend it: a config, an override, missing or malformed data."""

    exit_code = 2


class CheckpointError(DltrainError):
    """A checkpoint was demanded and none is usable."""

    exit_code = 3


class NonFiniteError(DltrainError):
    """The loss or a gradient was not finite, and `trainer.on_nonfinite` says stop.

    steps_ago: 0 where it was found within its step, 1 right after it, and so on.
    """

    exit_code = 4

    def __init__(self, message: str, *, steps_ago: int = 0) -> None:
        super().__init__(message)
        self.steps_ago = steps_ago


class StorageError(DltrainError):
    """No space, no quota, or no permission to write."""

    exit_code = 5


class WorkerError(DltrainError):
    """A process that reads data has died."""


class SampleError(WorkerError):
    """A sample cannot be read: the user can mend it, and go on."""

    exit_code = 2
