from tests.cli.conftest import elman  # noqa: F401
