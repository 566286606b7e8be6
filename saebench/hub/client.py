"""Getting files of the Hugging Face hub through its own client, into its own cache.

Everything is fetched at one commit. Without the network, or where the hub cannot be reached, what an earlier fetch left
in the cache is used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saebench.errors import SaebenchError
from saebench.hub.place import Place
from saebench.hub.wording import explain

_COMMIT = re.compile(r"[0-9a-f]{40}")


class HubError(SaebenchError):
    """Something cannot be had from the hub; the text says why and what to do."""


@dataclass(frozen=True)
class Listing:
    """What a repository holds at a commit.

    Attributes:
        commit: The commit, as 40 hexadecimal digits.
        files: The paths of all files; only of those in the cache if ``cached``.
        cached: Whether the hub was not asked, or could not be reached.
    """

    commit: str
    files: tuple[str, ...]
    cached: bool = False


def list_files(place: Place) -> Listing:
    """Return the commit that the revision of ``place`` means now, and the files of its repository.

    Raises:
        HubError: There is no such repository or revision, access to it is refused, or the hub cannot be reached and
            the cache knows nothing of it.
    """
    from huggingface_hub import HfApi, constants

    if not constants.HF_HUB_OFFLINE:
        try:
            info = HfApi().model_info(place.repository, revision=place.revision)
        except Exception as error:  # the client, and the network below it, raise many kinds
            if _is_answer(error) or (listing := cached_files(place)) is None:
                raise HubError(f"{explain(error, place)}.") from error
            return listing
        return Listing(str(info.sha), tuple(file.rfilename for file in info.siblings or ()))
    if (listing := cached_files(place)) is None:
        raise HubError(f"{explain(FileNotFoundError(), place)}.")
    return listing


def fetch(place: Place, files: Sequence[str], listing: Listing) -> Path:
    """Return a folder that holds ``files`` of a repository under their paths, fetching those that the cache lacks.

    Args:
        place: The repository and its revision.
        files: Paths inside the repository.
        listing: What `list_files` returned for ``place``.

    Raises:
        HubError: A file cannot be fetched.
    """
    from huggingface_hub import hf_hub_download

    root = None
    for file in files:
        # The first one is asked for by the revision, so that the cache remembers which commit that was.
        revision = place.revision if root is None and not listing.cached else listing.commit
        try:
            path = Path(hf_hub_download(place.repository, file, revision=revision))
        except Exception as error:  # as in `list_files`
            raise HubError(f"{explain(error, Place(place.repository, place.revision, file))}.") from error
        found = path.parents[file.count("/")]
        if root is not None and found != root:
            raise HubError(
                f"the revision {place.revision or 'main'!r} of {place.repository} has just moved; try again."
            )
        if found.name != listing.commit:  # it moved since the listing
            return fetch(place, files, Listing(found.name, listing.files))
        root = found
    if root is None:
        raise HubError(f"{place} names no file.")
    return root


def commit_of(path: Path) -> str | None:
    """Return the commit of a file in the hub's cache, or None for any other file."""
    for parent, name in zip(path.parents, (path, *path.parents), strict=False):
        if parent.name == "snapshots" and _COMMIT.fullmatch(name.name):
            return name.name
    return None


def _is_answer(error: BaseException) -> bool:
    """Whether the hub has refused a request, so that what the cache holds must not hide it."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status is not None and 400 <= status < 500 and status not in (408, 429)


def cached_files(place: Place) -> Listing | None:
    """Return what the cache holds of a repository at a revision, or None if it holds nothing."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=place.repository, repo_type="model")
    commit = place.revision or "main"
    try:
        if not _COMMIT.fullmatch(commit):
            commit = (folder / "refs" / commit).read_text("utf-8").strip()
        snapshot = folder / "snapshots" / commit
        if not _COMMIT.fullmatch(commit) or not snapshot.is_dir():
            return None
    except (OSError, ValueError):
        return None
    files = sorted(path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file())
    return Listing(commit, tuple(files), cached=True) if files else None
