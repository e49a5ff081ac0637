"""`from with_grpc import grpc`: the script runs under Debian's Python where this one has no gRPC; `grpc` is None where neither has.

To be imported before the script does anything: it begins again.
"""
import importlib
import os
import sys

SYSTEM = "/usr/bin/python3"
BEGUN_AGAIN = "FM_BEGUN_AGAIN"


def has(*modules):
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError:
        return False
    return True


def found(*modules):
    """Whether the modules are here; begins again under Debian's Python, once, where they are not."""
    if has(*modules):
        return True
    if os.path.realpath(sys.executable) != os.path.realpath(SYSTEM) and os.path.exists(SYSTEM) and BEGUN_AGAIN not in os.environ:
        os.environ[BEGUN_AGAIN] = "1"
        os.execv(SYSTEM, [SYSTEM, *sys.argv])
    return False


def skip_without(*modules):
    """Ends a test, as one that is skipped, where no Python has all of these."""
    if not found(*modules):
        print("1..0 # SKIP no Python of this machine has %s (Debian: python3-grpcio, python3-protobuf)" % ", ".join(modules))
        sys.exit(0)


grpc = importlib.import_module("grpc") if found("grpc") else None
