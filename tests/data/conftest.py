"""A home with a small sae-probes asset, made of the texts that a test gives."""

import csv
import hashlib
import io
import json

import pytest
import zstandard

from saebench.data.assets import manifest


class FakeProbes:
    def __init__(self, home):
        self.folder = home / "assets" / "sae-probes"
        self.folder.mkdir(parents=True)
        self.files = {}
        self._mark()

    def add(self, file_name, rows, header=("prompt", "target")):
        text = io.StringIO()
        csv.writer(text).writerows([header, *rows])
        path = self.folder / file_name
        path.parent.mkdir(exist_ok=True)
        data = zstandard.compress(text.getvalue().encode())
        path.write_bytes(data)
        self.files[file_name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        self._mark()
        return path

    def _mark(self):
        marker = {"name": "sae-probes", "licence": "MIT", "sources": {}, "files": self.files}
        marker["source_sha256"] = manifest()["sae-probes"].source_sha256
        (self.folder / "asset.json").write_text(json.dumps(marker))


@pytest.fixture
def fake_probes(tmp_path, monkeypatch):
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path))
    return FakeProbes(tmp_path)
