"""Fetching files through the real client from a server that speaks the hub's protocol."""

from __future__ import annotations

import pytest
from huggingface_hub import constants

from saebench.hub.client import HubError, commit_of, fetch, list_files
from saebench.hub.place import Place, parse_place
from tests.hub.server import Repository

FILES = {"a/cfg.json": b"{}", "a/w.safetensors": b"weights" * 99, "README.md": b"#"}
HERE = Place("org/repo", None, "a")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("org/repo", Place("org/repo")),
        ("org/repo/", Place("org/repo")),
        ("org/repo/a/b.npz", Place("org/repo", None, "a/b.npz")),
        ("org/repo@v1.0/a", Place("org/repo", "v1.0", "a")),
        ("o.r-g_1/r.e", Place("o.r-g_1/r.e")),
    ],
)
def test_places_are_read_and_written(text, place):
    assert parse_place(text) == place
    assert parse_place(str(place)) == place


@pytest.mark.parametrize(
    "text",
    ["", "org", "/org/repo", "org/repo/../x", "org/repo//x", "org/repo@", "a b/c", "org/repo/x\0", "org/repo/a\\b"],
)
def test_texts_that_name_no_place(text):
    assert parse_place(text) is None


def test_files_are_fetched_at_one_commit_and_kept(hub):
    running = hub(org__repo=Repository(dict(FILES)))
    listing = list_files(HERE)
    assert (listing.commit, set(listing.files), listing.cached) == ("a" * 40, set(FILES), False)
    root = fetch(HERE, ["a/cfg.json", "a/w.safetensors"], listing)
    assert (root / "a" / "w.safetensors").read_bytes() == FILES["a/w.safetensors"]
    assert commit_of(root / "a" / "w.safetensors") == "a" * 40
    assert not (root / "README.md").exists()
    running.asked.clear()
    assert fetch(HERE, ["a/w.safetensors"], listing) == root
    assert not [path for path in running.asked if path.startswith("GET")]


def test_a_revision_is_a_branch_or_a_commit(hub):
    hub(org__repo=Repository(dict(FILES), {"main": "a" * 40, "old": "b" * 40}))
    for revision, commit in (("old", "b" * 40), ("b" * 40, "b" * 40), (None, "a" * 40)):
        place = Place("org/repo", revision, "a")
        listing = list_files(place)
        assert listing.commit == commit
        assert fetch(place, ["a/cfg.json"], listing).name == commit


def test_a_branch_that_moves_between_listing_and_fetching(hub):
    running = hub(org__repo=Repository(dict(FILES)))
    listing = list_files(HERE)
    running.repositories["org/repo"].branches["main"] = "c" * 40
    root = fetch(HERE, ["a/cfg.json", "a/w.safetensors"], listing)
    assert root.name == "c" * 40
    assert sorted(path.name for path in (root / "a").iterdir()) == ["cfg.json", "w.safetensors"]


@pytest.mark.parametrize("how", ["offline", "unreachable", "broken"])
def test_what_was_fetched_is_there_without_the_hub(hub, monkeypatch, how):
    running = hub(org__repo=Repository(dict(FILES)))
    fetch(HERE, ["a/cfg.json"], list_files(HERE))
    if how == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif how == "unreachable":
        running.stop()
    else:
        running.broken = 503
    listing = list_files(HERE)
    assert (listing.commit, listing.files, listing.cached) == ("a" * 40, ("a/cfg.json",), True)
    assert (fetch(HERE, listing.files, listing) / "a" / "cfg.json").read_bytes() == b"{}"
    with pytest.raises(HubError, match=r"org/repo/a/w\.safetensors is not in the cache|could not be reached|order"):
        fetch(HERE, ["a/w.safetensors"], listing)
    with pytest.raises(HubError, match=r"prefetch|network|later"):
        list_files(Place("org/other"))


@pytest.mark.parametrize(
    ("repository", "place", "message"),
    [
        (Repository({}, refusal=(403, "GatedRepo")), HERE, "org/repo is gated; accept its terms"),
        (Repository({}, refusal=(401, "GatedRepo")), HERE, "org/repo is gated; accept its terms"),
        (Repository({}, refusal=(401, "")), HERE, "no repository org/repo, or you have no access"),
        (Repository({}, refusal=(403, "")), HERE, "the hub forbids access to org/repo"),
        (Repository({}, refusal=(429, "")), HERE, "takes no more requests"),
        (Repository({}, refusal=(500, "")), HERE, r"out of order \(HTTP 500\)"),
        (Repository({}), Place("org/repo", "none", "a"), "org/repo has no revision 'none'"),
        (Repository({}), Place("org/none"), "the hub has no repository org/none"),
    ],
)
def test_refusals_have_a_sentence(hub, repository, place, message):
    hub(org__repo=repository)
    with pytest.raises(HubError, match=message):
        list_files(place)


def test_a_file_that_the_repository_lacks(hub):
    hub(org__repo=Repository(dict(FILES)))
    with pytest.raises(HubError, match=r"the repository org/repo has no a/x\.npz at the revision 'main'"):
        fetch(HERE, ["a/x.npz"], list_files(HERE))


def test_a_transfer_that_breaks_off_leaves_no_file_and_can_be_repeated(hub):
    running = hub(org__repo=Repository(dict(FILES), truncated=frozenset({"a/w.safetensors"})))
    with pytest.raises(HubError, match=r"the transfer broke off .* try again"):
        fetch(HERE, ["a/w.safetensors"], list_files(HERE))
    running.repositories["org/repo"].truncated = frozenset()
    root = fetch(HERE, ["a/w.safetensors"], list_files(HERE))
    assert (root / "a" / "w.safetensors").read_bytes() == FILES["a/w.safetensors"]


def test_a_slow_server_is_given_up(hub):
    hub(org__repo=Repository(dict(FILES), slow=30))
    with pytest.raises(HubError, match=r"the transfer broke off \(\w*Timeout.* try again"):
        fetch(HERE, ["a/w.safetensors"], list_files(HERE))
