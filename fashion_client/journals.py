"""Which journal a run of `fashion request` writes: a new one, the one named, or the newest that is not finished."""

from __future__ import annotations

from pathlib import Path

from fashion_client.journal import Journal
from fashion_client.request_plan import Deployment, Run
from handoff.contracts.errors import FashionError, SettingsInvalid

SUFFIX = ".journal"


def begin_journal(named: Path | None, *, folder: Path, run: Run) -> Journal:
    """Begin a journal: in the file named, else in one of the folder that is named by time.

    Raises: SettingsInvalid: the file cannot be made, or holds a run
    """
    path = named or folder / f"{run.begun_at:%Y%m%dT%H%M%SZ}-{run.run_id}{SUFFIX}"
    # Empty: a run was killed between making the file and its first page.
    if path.exists() and (not path.is_file() or path.stat().st_size):
        with Journal.open(path) as found:
            if found.is_finished:
                raise SettingsInvalid(f"{path} is the journal of a finished run; name another file as --journal.")
            raise SettingsInvalid(
                f"{path} is the journal of an interrupted run; `fashion request --resume --journal {path}` goes on with"
                " it, or name another file."
            )
    return Journal.create(path, run)


def resume_journal(named: Path | None, *, folder: Path, deployment: Deployment) -> Journal | None:
    """Open the journal to go on with: the one named, else the newest unfinished one of the folder; None without one.

    The one named may be finished.

    Raises: SettingsInvalid: the one named cannot be used, or its run is of another deployment
    """
    if named is not None:
        journal: Journal | None = Journal.open(named)
    else:
        # Named by time; those that cannot be opened are other processes', or were never begun.
        paths = sorted(folder.glob(f"*{SUFFIX}"), reverse=True)
        journal = next((found for path in paths if (found := _unfinished(path)) is not None), None)
    if journal is None:
        return None
    told = journal.run.deployment
    if told != deployment:
        journal.close()
        raise SettingsInvalid(
            f"The run in {journal.path} was begun with --broker {told.broker} --store {told.store}; go on with it"
            f" there, not with {deployment.broker} and {deployment.store}."
        )
    return journal


def _unfinished(path: Path) -> Journal | None:
    try:
        journal = Journal.open(path)
    except FashionError:
        return None
    if journal.is_finished:
        journal.close()
        return None
    return journal
