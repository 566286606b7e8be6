import re

from saebench.data import assets
from saebench.data.assets.manifest import manifest, parse_asset


def test_the_three_assets_are_well_formed():
    assert list(manifest()) == ["gemma-3-270m", "smollm2-135m", "sae-probes"]
    for asset in manifest().values():
        assert asset.licence
        assert asset.description
        assert asset.homepage.startswith("https://")
        assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", wheel.requirement) for wheel in asset.wheels)
        assert all(re.fullmatch(r"[0-9a-f]{64}", file.sha256) and file.size > 0 for file in asset.files)
        names = [file.name for file in asset.files]
        assert len(set(names)) == len(names)
        assert not any(name.startswith("/") or ".." in name.split("/") for name in names)
        assert asset.gguf is None or asset.gguf in names


def test_gemma_is_joined_from_four_parts_in_order_and_carries_its_terms():
    gemma = manifest()["gemma-3-270m"]
    weights = next(file for file in gemma.files if file.name == gemma.gguf)
    assert weights.sha256 == "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
    assert [member.path[-2:] for member in weights.members] == ["00", "01", "02", "03"]
    assert {"GEMMA_TERMS.html", "NOTICE.md"} < {file.name for file in gemma.files}
    assert 230e6 < gemma.download_size < 250e6


def test_disk_needed_covers_download_and_conversion(entries):
    asset = parse_asset("tiny-model", entries["tiny-model"])
    extracted = sum(file.size for file in asset.files)
    assert asset.disk_needed >= 2 * asset.download_size
    assert asset.disk_needed >= extracted + asset.finished_size


def test_source_identity_depends_on_the_content(entries):
    before = parse_asset("tiny-model", entries["tiny-model"]).source_sha256
    entries["tiny-model"]["description"] = "other words"
    assert parse_asset("tiny-model", entries["tiny-model"]).source_sha256 == before
    entries["tiny-model"]["files"]["NOTICE"]["sha256"] = "f" * 64
    assert parse_asset("tiny-model", entries["tiny-model"]).source_sha256 != before


def test_home_is_chosen_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SAEBENCH_HOME", str(tmp_path))
    assert assets.home() == tmp_path
    assert assets.status("sae-probes").path == tmp_path / "assets" / "sae-probes"
    monkeypatch.delenv("SAEBENCH_HOME")
    assert assets.home().name == "saebench"
