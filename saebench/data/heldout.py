"""The documents of the sae-probes texts that the zoo was trained on, which evaluation must never use.

The content of a document decides: a hash of its beginning gives its position in [0, 1), and the documents below
``ZOO_SHARE`` are the zoo's. The zoo's weights were trained under this rule, so changing it invalidates them.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from saebench.data.documents import Documents

ZOO_SHARE = 0.6
KEY_CHARACTERS = 150
ASSET_PREFIX = "asset:sae-probes/"

# The numbers of the files that the zoo was trained on.
ZOO_FILES = frozenset({45, 48, 49, *range(56, 65), 94, 98, 100, 101, 111, 158, 159, 160})
# Other files that share documents with them: reviews, medical sentences, and news mixed with code.
OVERLAPPING_FILES = frozenset({112, *range(142, 148), 161, 162, 163})
# Names that are whole documents both in a training file and in lists of persons, places or works.
SHARED_NAMES = frozenset(
    {
        "Chevy Chase",
        "Edward Seymour, 1st Duke of Somerset",
        "Elvis Presley",
        "Herbert Hoover",
        "James Buchanan",
        "John Dalton",
        "Krzysztof Penderecki",
        "Luigi Boccherini",
        "Margaret of Hungary",
        "Tom Ford",
    }
)


def key(text: str) -> str:
    """Return the text that identifies a document: its first 150 characters, with white space normalised."""
    return " ".join(text.split())[:KEY_CHARACTERS]


def position(text: str) -> float:
    """Return the document's position in [0, 1), from a hash of its key."""
    digest = hashlib.blake2b(key(text).encode(), digest_size=8).digest()
    return float(int.from_bytes(digest, "big") / 2**64)


def is_zoo_text(text: str, file_name: str) -> bool:
    """Return whether a document of a file such as "97_news_class" belongs to the zoo's training share."""
    file_id = int(file_name.split("_")[0])
    shared = file_id in ZOO_FILES or file_id in OVERLAPPING_FILES or key(text) in SHARED_NAMES
    return shared and position(text) < ZOO_SHARE


def zoo_documents(documents: Documents) -> Documents:
    """Return the documents in the zoo's training share, of which only the sae-probes asset has any."""
    return _share(documents, zoo=True)


def evaluation_documents(documents: Documents) -> Documents:
    """Return the documents outside the zoo's training share, with the number of the others in ``n_zoo``."""
    kept = _share(documents, zoo=False)
    return replace(kept, n_zoo=documents.n_zoo + len(documents.texts) - len(kept.texts))


def _share(documents: Documents, *, zoo: bool) -> Documents:
    if not documents.ref.startswith(ASSET_PREFIX):
        return replace(documents, texts=[] if zoo else list(documents.texts))
    name = documents.ref.removeprefix(ASSET_PREFIX)
    return replace(documents, texts=[text for text in documents.texts if is_zoo_text(text, name) is zoo])
