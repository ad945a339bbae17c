"""What can go wrong between two who speak DLMS; the line makes DriverErrors of these.

DlmsError
├── UnfitAnswer         what came is not the answer to what was asked: the association is given up
├── LinkLost            the meter closed the HDLC link, or does not know of one
├── AssociationRefused  it does not let us in: password, keys, or an address that is somebody else's
├── CipherError         a message that is not from the holder of the keys, or an old one
└── ServiceRefused      it knows us, and does not do what was asked; the association goes on
"""


class DlmsError(Exception):
    """A dialogue failed; the message is for the operator, and never holds a key."""


class UnfitAnswer(DlmsError):
    """What came is not the answer to what was asked."""


class LinkLost(DlmsError):
    """The meter closed the link below the association."""


class AssociationRefused(DlmsError):
    """The meter does not open an association with us."""


class CipherError(DlmsError):
    """A message does not prove that the holder of the keys has just made it."""


class ServiceRefused(DlmsError):
    """The meter answered that it does not do this; ``word`` is the standard's name of the reason.

    ``exception`` says that it did so with an exception, which is also what a meter answers that knows of no
    association: who gets nothing else from it opens a new one.
    """

    def __init__(self, message: str, word: str, *, exception: bool = False) -> None:
        super().__init__(message)
        self.word = word
        self.exception = exception


class WrongType(DlmsError):
    """An attribute holds something else than its class says, or than the meter's map says."""
