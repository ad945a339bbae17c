"""What can go wrong with a read-out; the line makes DriverErrors of these.

ReadOutError
├── NoAnswer      nothing came in time
├── UnfitAnswer   what came is not the answer to what was asked
├── NotSpoken     the meter speaks, and not what this driver does
└── WrongValue    a data set holds something else than its meter's map says
"""


class ReadOutError(Exception):
    """A dialogue failed; the message is for the operator."""


class NoAnswer(ReadOutError):
    """Nothing came in time."""


class UnfitAnswer(ReadOutError):
    """What came is not the answer to what was asked."""


class NotSpoken(ReadOutError):
    """The meter wants a mode or a speed that this line has not."""


class WrongValue(ReadOutError):
    """A data set does not hold what its map says."""
