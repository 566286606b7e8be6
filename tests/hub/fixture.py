"""A hub on this machine, which the real client asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from huggingface_hub import constants

from tests.hub.server import Hub, Repository, serve


@pytest.fixture
def hub(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Hub]]:
    """Call it with repositories by name; the client then asks a server that holds them, and caches below tmp_path."""
    open_servers = []

    def start(**repositories: Repository) -> Hub:
        manager = serve(Hub({name.replace("__", "/"): held for name, held in repositories.items()}))
        running = manager.__enter__()
        open_servers.append(manager)
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        return running

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits longer and longer between its trials
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield start
    for manager in open_servers:
        manager.__exit__(None, None, None)
