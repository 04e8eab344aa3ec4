"""Blobs, disk, secret, and the subjects that users may name: what must be right on the machine that looks."""

import shutil
from collections.abc import Iterator

from schema.blobs import open_blobs
from schema.errors import GlossariumError, UnknownSubject
from schema.settings import Settings
from schema.subjects import BUNDLED, subject_facts
from service.doctor.finding import Finding, failed, ok, warning
from service.folder import MIN_FREE_BYTES

SECRET_FROM = 16


def check_blobs(settings: Settings) -> Finding:
    """Return whether the store of blobs can be written and read."""
    try:
        blobs = open_blobs(settings)
        blobs.identity()
        blobs.probe()
    except GlossariumError as exc:
        advice = "let this user write there, see to the disk, or mend GLOSSARIUM_BLOBS_URL or GLOSSARIUM_DATA_DIR"
        return failed("blobs", str(exc), advice)
    return ok("blobs", f"{settings.blobs} can be written and read")


def check_disk(settings: Settings) -> Finding:
    """Return whether there is room on the disk of the data folder."""
    folder = settings.data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    said = f"{free / 2**30:.1f} GiB are free for {settings.data_dir}"
    if free < MIN_FREE_BYTES:
        return failed("disk", said, f"make room: uploads and jobs need {MIN_FREE_BYTES / 2**30:.0f} GiB at least")
    return ok("disk", said)


def check_secret(settings: Settings) -> Finding:
    """Return whether there is a secret that can't be guessed."""
    length = len(settings.secret.get_secret_value())
    if not length:
        advice = "set GLOSSARIUM_SECRET to 32 random characters, the same for every process"
        return failed("secret", "GLOSSARIUM_SECRET is not set: texts in prompts can be forged", advice)
    if length < SECRET_FROM:
        advice = "choose a longer one; labels that were made with this one then count as other work"
        return warning("secret", f"GLOSSARIUM_SECRET has {length} characters; {SECRET_FROM} are hard to guess", advice)
    return ok("secret", "is set")


def check_subjects(settings: Settings) -> Iterator[Finding]:
    """Yield for each subject that users may name whether it is known."""
    if not settings.subjects_allowed:
        advice = "name some in GLOSSARIUM_SUBJECTS_ALLOWED, as a JSON list"
        yield failed("subjects", "no subject is allowed: nobody can submit a dictionary", advice)
    for name in settings.subjects_allowed:
        try:
            facts = subject_facts(name, settings)
        except UnknownSubject as exc:
            advice = (
                f"mend GLOSSARIUM_SUBJECTS_ALLOWED: {BUNDLED}, or a folder with a config.json that API and workers see"
            )
            yield failed("subjects", str(exc), advice)
            continue
        sizes = f"{facts.known.n_layers} layers of {facts.known.d_model}" if facts.known else "sites by module path"
        yield ok("subjects", f"{name}: {facts.model_type}, {sizes}")
