"""What the client of the hub means by its errors, in one sentence with a way out."""

from __future__ import annotations

from saebench.hub.place import Place
from saebench.safe_text import short


def explain(error: BaseException, place: Place) -> str:
    """Return why something could not be had from the hub, and what to do.

    Args:
        error: Whatever the client, or the network below it, raised.
        place: What was asked for.
    """
    from huggingface_hub import constants, errors

    repository, revision = place.repository, place.revision or "main"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return (
            f"the repository {repository} is gated; accept its terms on its page, log in with `hf auth login` (or set "
            "HF_TOKEN), and try again"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository {repository} has no revision {revision!r}; name a branch, a tag or a commit of it"
    if isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        return (
            f"the hub has no repository {repository}, or you have no access to it; check its name, and log in with "
            "`hf auth login` if it is private"
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"the repository {repository} has no {place.path} at the revision {revision!r}"
    if status == 403:
        return f"the hub forbids access to {repository}; check what your token (HF_TOKEN) may read"
    if status == 429:
        return "the hub takes no more requests from you for now; wait some minutes, or log in with `hf auth login`"
    if status is not None and status >= 500:
        return f"the hub is out of order (HTTP {status}); try again later"
    if constants.HF_HUB_OFFLINE or isinstance(error, errors.OfflineModeIsEnabled):
        return (
            f"{place} is not in the cache, and HF_HUB_OFFLINE forbids the network; run `saebench prefetch` with the "
            "same plan while the network is allowed"
        )
    cause = error.__cause__ or error
    return (
        f"the hub could not be reached, or the transfer broke off ({type(cause).__name__}: {short(cause, 200)}); check "
        "the network and try again, which goes on with what was fetched"
    )
