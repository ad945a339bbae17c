"""OpenAMI Village: open metering, from a meter's registers to the operator's store."""

__version__ = "0.1.0"
