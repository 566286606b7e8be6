"""Folder names for references: readable, safe on every file system, and different for different references."""

from __future__ import annotations

import hashlib
import re

MAX_LENGTH = 64
_HASH_LENGTH = 8
# Names that Windows reserves, with or without an extension.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)")
_PLAIN = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9_-])?")


def slug(name: str) -> str:
    """Return ``name`` if it is plain, and otherwise its plain characters, ``~`` and a short hash of ``name``.

    The result has at most 64 characters. Plain names hold no ``~``, so a changed name never equals an unchanged one.
    Names with capitals are changed, too, because some file systems do not distinguish capitals from small letters.

    >>> slug("blocks.9.hook_resid_post")
    'blocks.9.hook_resid_post'
    >>> slug("zoo:topk-k32-s0")
    'zoo-topk-k32-s0~da2eb74c'
    """
    if len(name) <= MAX_LENGTH and _PLAIN.fullmatch(name) and not _RESERVED.match(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "unnamed"
    if _RESERVED.match(readable.lower()):
        readable = f"_{readable}"
    return f"{readable[: MAX_LENGTH - _HASH_LENGTH - 1]}~{digest}"
