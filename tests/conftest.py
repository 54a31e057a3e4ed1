"""What every test file may use without importing it.

Helper modules are imported by their full name, as in `from tests.system import publish`: pytest puts the repository's
root on the path (`pythonpath` in pyproject.toml), and `tests` is a namespace package without an `__init__.py`.
"""

import os

from hypothesis import settings

from tests.kafka_broker import kafka_broker

# Files of tests run side by side, and models this small are no quicker on more threads: where threads of several
# processes share a core, they wait for each other's turn at every product. It has to be set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A landing must not depend on luck: where CI is set the same examples are tried each time, elsewhere always new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

__all__ = ["kafka_broker"]
