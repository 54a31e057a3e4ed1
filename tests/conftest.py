"""What every test file may use without importing it.

Helper modules are imported by their full name, as in `from tests.system import publish`: pytest puts the repository's
root on the path (`pythonpath` in pyproject.toml), and `tests` is a namespace package without an `__init__.py`.
"""

import os

from hypothesis import settings

from tests.kafka_broker import kafka_broker

# A landing must not depend on luck: where CI is set the same examples are tried each time, elsewhere always new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

__all__ = ["kafka_broker"]
