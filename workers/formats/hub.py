"""Dictionaries on a Hugging Face hub: `hf:ORG/REPO/PATH@REVISION`, resolved to a commit, fetched once and cached.

Only the files that some format reads are fetched. The hub is the one that HF_ENDPOINT names; where none can be reached
what is cached is used, if the reference names a commit.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from schema.errors import BadWeights, InvalidInput, Unavailable

PREFIX = "hf:"
_FORM = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:/([^@]*?))?/?(?:@([\w./-]+))?")
_ALWAYS = ("*.npy", "*weight.pt", "*bias.pt", "*.npz")
_MOST_LISTED = 8


class Reference(NamedTuple):
    """A folder or file in a repository; `path` is "" for all of it, `revision` None for the newest."""

    repository: str
    path: str
    revision: str | None


class Fetched(NamedTuple):
    """Where a reference lies on this machine, and the same reference with its commit."""

    path: Path
    reference: str


def is_reference(text: str) -> bool:
    """Return whether a text names something on a hub."""
    return text.startswith(PREFIX)


def parse(text: str) -> Reference:
    """Return the reference that a text is. Raises InvalidInput."""
    found = _FORM.fullmatch(text)
    path = (found[2] or "") if found else ""
    if found is None or ".." in PurePosixPath(path).parts or ".." in found[1].split("/"):
        raise InvalidInput(f"reference={text!r}; must be hf:ORG/REPO/PATH, with @REVISION behind it if not the newest")
    return Reference(found[1], path, found[3])


def short_name(text: str) -> str:
    """Return what to call a dictionary that is fetched: its repository and path."""
    reference = parse(text)
    return "/".join(part for part in (reference.repository.split("/")[1], reference.path) if part)[-200:]


def fetch(reference: Reference, names: Collection[str]) -> Fetched:
    """Return where a reference lies, after it was fetched.

    names:  of the files that dictionaries are made of.
    Raises: BadWeights where there is no such repository, revision or path, or it is gated, or holds several
            dictionaries; Unavailable where no hub can be reached.
    """
    import httpx2
    from huggingface_hub import HfApi, snapshot_download

    try:
        with _translated(reference):
            info = HfApi().model_info(reference.repository, revision=reference.revision, timeout=30)
            listed = [file.rfilename for file in info.siblings or []]
            wanted = choose_files(reference, listed, names)
            folder = snapshot_download(
                reference.repository,
                revision=info.sha,
                allow_patterns=[_escaped(name) for name in wanted],
                max_workers=4,
            )
    except (httpx2.HTTPError, OSError) as exc:
        return _cached(reference, names, exc)
    return _found(reference, Path(folder), str(info.sha))


def list_folders(reference: Reference, formats: Sequence[Collection[str]], parts: Collection[str]) -> dict[str, str]:
    """Return the references, at one commit, of the folders below a reference that may be dictionaries.

    They are by their path from there; none where the reference is a dictionary itself, or no hub can be reached.
    formats: the files that a dictionary of each format has.
    parts:   names of files that only a dictionary has.
    Raises:  BadWeights where there is no such repository or revision, or it is gated.
    """
    import httpx2
    from huggingface_hub import HfApi

    try:
        with _translated(reference):
            info = HfApi().model_info(reference.repository, revision=reference.revision, timeout=30)
    except (httpx2.HTTPError, OSError):
        return {}  # It may be one dictionary, and cached: fetching it finds that, or says what is wrong.
    listed = [file.rfilename for file in info.siblings or []]
    folders = choose_folders(reference.path, listed, formats, parts)
    whole = reference._replace(revision=str(info.sha))
    prefix = f"{reference.path}/" if reference.path else ""
    return {folder.removeprefix(prefix): said_of(whole._replace(path=folder)) for folder in folders}


def choose_folders(
    path: str, listed: Sequence[str], formats: Sequence[Collection[str]], parts: Collection[str]
) -> list[str]:
    """Return the outermost folders below a path of a repository that may be dictionaries; none if the path is one."""
    prefix = f"{path}/" if path else ""
    if path in listed or any(all(prefix + name in listed for name in names) for names in formats):
        return []
    found = {folder for file in listed if file.startswith(prefix) and (folder := _folder(file, parts))} - {path}
    return sorted(folder for folder in found if not any(folder.startswith(f"{other}/") for other in found))


@contextmanager
def _translated(reference: Reference) -> Iterator[None]:
    """Translate what a hub refuses to BadWeights and InvalidInput, with what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    said = said_of(reference)
    try:
        yield
    except GatedRepoError as exc:
        raise BadWeights(f"reference={said!r}; it is gated: ask for access on its page, and set HF_TOKEN") from exc
    except RevisionNotFoundError as exc:
        raise BadWeights(f"reference={said!r}; the repository has no revision {reference.revision!r}") from exc
    except RepositoryNotFoundError as exc:
        raise BadWeights(
            f"reference={said!r}; no such repository, or it is private: check it, or set HF_TOKEN"
        ) from exc
    except HFValidationError as exc:
        raise InvalidInput(f"reference={said!r}; {exc}") from exc


def said_of(reference: Reference) -> str:
    """Return a reference as a user writes it."""
    path = f"/{reference.path}" if reference.path else ""
    return f"{PREFIX}{reference.repository}{path}" + (f"@{reference.revision}" if reference.revision else "")


def choose_files(reference: Reference, listed: Sequence[str], names: Collection[str]) -> list[str]:
    """Return the files of a dictionary among those of a repository. Raises BadWeights for none or several."""
    said = said_of(reference)
    if reference.path in listed:
        beside = str(PurePosixPath(reference.path).parent)
        return [reference.path, *_made_of(listed, "" if beside == "." else beside, names)]
    here = _made_of(listed, reference.path, names)
    if here:
        return here
    prefix = f"{reference.path}/" if reference.path else ""
    folders = sorted({_folder(file, names) for file in listed if file.startswith(prefix)} - {None, ""}, key=str)
    if not folders:
        raise BadWeights(f"reference={said!r}; the repository has no such path, or nothing there that can be read")
    more = f" and {len(folders) - _MOST_LISTED} more" if len(folders) > _MOST_LISTED else ""
    some = ", ".join(str(folder) for folder in folders[:_MOST_LISTED])
    raise BadWeights(f"reference={said!r}; it holds {len(folders)} dictionaries; name one of {some}{more}")


def _made_of(listed: Sequence[str], folder: str, names: Collection[str]) -> list[str]:
    """Return the listed files that a dictionary in a folder may be made of."""
    prefix = f"{folder}/" if folder else ""
    inside = [file.removeprefix(prefix) for file in listed if file.startswith(prefix)]
    return [prefix + file for file in inside if _is_known(file, names)]


def _is_known(file: str, names: Collection[str]) -> bool:
    return file in names or ("/" not in file and any(fnmatch(file, pattern) for pattern in _ALWAYS))


def _folder(file: str, names: Collection[str]) -> str | None:
    """Return the folder of the dictionary that a file may belong to."""
    for name in names:
        if file.endswith("/" + name):
            return file.removesuffix("/" + name)
    return None


def _escaped(name: str) -> str:
    return re.sub(r"([\[*?])", r"[\1]", name)


def _cached(reference: Reference, names: Collection[str], problem: Exception) -> Fetched:
    """Return what was fetched before, where the reference names a commit or a branch of then. Raises Unavailable."""
    from huggingface_hub import constants, try_to_load_from_cache

    for name in ("", *names):
        file = "/".join(part for part in (reference.path, name) if part)
        cached = try_to_load_from_cache(reference.repository, file, revision=reference.revision) if file else None
        if isinstance(cached, str):
            folder = Path(cached).parents[file.count("/")]
            return _found(reference, folder, folder.name)
    said = said_of(reference)
    reason = " ".join(str(problem).split())[:200] or type(problem).__name__
    raise Unavailable(
        f"reference={said!r}; the hub at {constants.ENDPOINT} can't be reached and nothing of it is cached: {reason}. "
        "Fetch the files elsewhere and give their path"
    ) from problem


def _found(reference: Reference, folder: Path, commit: str) -> Fetched:
    return Fetched(folder / reference.path, said_of(reference._replace(revision=commit)))
