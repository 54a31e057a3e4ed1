"""Standwatch: compress once, question forever."""

__version__ = "0.1.0"
