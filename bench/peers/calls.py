"""The functions that every peer runs. Workers import them by name."""


def noop():
    return None


def echo(value):
    return value
