"""The version of medpipe, read by the build and by the record of every run."""

__version__ = "0.1.0"
