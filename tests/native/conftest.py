"""What the tests of kernels share, compiled once."""

import emulation
import launches
import pytest


@pytest.fixture(scope="session")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> emulation.Emulated:
    return emulation.emulated(tmp_path_factory.mktemp("emulated"))


@pytest.fixture(scope="session")
def callers(tmp_path_factory: pytest.TempPathFactory) -> launches.Launches:
    return launches.launches(tmp_path_factory.mktemp("launches"))
