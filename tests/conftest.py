"""What every test file may use without importing it.

Helper modules are imported by their full name, as in `from tests.system import publish`: pytest puts the repository's
root on the path (`pythonpath` in pyproject.toml), and `tests` is a namespace package without an `__init__.py`.
"""

from tests.kafka_broker import kafka_broker

__all__ = ["kafka_broker"]
