"""Deletes checkpoints of a run: those that nobody needs any more, all but the newest ones and the best one.

Only the chief of the training that holds the run's lease deletes here. The manifest of a checkpoint goes first, so a
crash at any line leaves files that no reader takes for a checkpoint, and the next call deletes those, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from cnnlib.errors import CnnlibError, InputError
from cnnlib.log import log_event
from cnnlib.runs.checkpoints import Checkpoint, find_stable, last_and_best, list_checkpoints
from cnnlib.storage import files, layout, publish
from cnnlib.storage.uri import join_uri, uri_name


class CheckpointCleaner:
    """Keeps the newest checkpoints of a run and the best one, and deletes the others."""

    def __init__(
        self, run: str, keep: int, reports_uri: str | None = None, *, keeps_stable: bool = False
    ) -> None:
        """Takes what is kept.

        Args:
            keep: how many of the newest checkpoints stay; 0: all.
            reports_uri: a folder of reports: a checkpoint also stays until there is a report about it. None: no report
                is waited for.
            keeps_stable: keep the checkpoint that a rollback goes back to, too.
        """
        self._run, self._keep, self._reports_uri = run, keep, reports_uri
        self._keeps_stable = keeps_stable
        self._reported: dict[
            str, str | None
        ] = {}  # digest of the checkpoint, by the name of the report's manifest

    def clean(self) -> None:
        """Deletes what nobody needs. What cannot be deleted is named in the log, and is tried again at the next call.

        Raises:
            CnnlibError: storage does not list or read what is there. Nothing was deleted.
        """
        if not self._keep:
            return
        checkpoints = list_checkpoints(self._run)
        if not checkpoints:
            return
        kept = select_kept(checkpoints, self._keep)
        if self._keeps_stable:
            kept.add(find_stable(checkpoints))
        old = [each for each in checkpoints if each.epoch not in kept]
        if self._reports_uri is not None and old:
            reported = self._find_reported(self._reports_uri)
            old = [each for each in old if each.digest in reported]
        complete = {each.epoch for each in checkpoints} - {each.epoch for each in old}
        for epoch in _list_epochs(self._run):
            if epoch not in complete and epoch < checkpoints[-1].epoch:
                delete_checkpoint(layout.checkpoint_uri(self._run, epoch))

    def _find_reported(self, reports_uri: str) -> set[str | None]:
        """Returns the digests of all checkpoints that have a report; reads the manifest of each report once."""
        folder = layout.report_manifests(reports_uri)
        for name in files.list_files(folder):
            if name.endswith(".json") and name not in self._reported:
                self._reported[name] = _find_digest(join_uri(folder, name))
        return set(self._reported.values())


def select_kept(checkpoints: Sequence[Checkpoint], keep: int) -> set[int]:
    """Returns the epochs of the newest `keep` checkpoints and of the best one, which is `@best` before and after.

    Args:
        checkpoints: all complete checkpoints of a run, by epoch; at least one.
        keep: at least 1.
    """
    _, best = last_and_best(checkpoints)
    return {each.epoch for each in checkpoints[-keep:]} | {best.epoch}


def delete_checkpoint(checkpoint_uri: str) -> None:
    """Deletes a checkpoint, or what is left of one, and says so; its manifest goes first."""
    try:
        names = set(files.list_files(checkpoint_uri))
        if not names:
            return  # a local folder stays when its files are gone
        for name in sorted(names, key=lambda name: (name != layout.MANIFEST, name)):
            files.delete(join_uri(checkpoint_uri, name))
    except CnnlibError as err:
        log_event("checkpoint", note=f"{checkpoint_uri} was not deleted: {err}")
    else:
        log_event("checkpoint", deleted=uri_name(checkpoint_uri))


def _list_epochs(run: str) -> list[int]:
    epochs = [layout.find_epoch(name) for name in files.list_folders(layout.run_checkpoints(run))]
    return sorted(epoch for epoch in epochs if epoch is not None)


def _find_digest(report_manifest: str) -> str | None:
    """Returns the digest of the model that a report is about; None if the manifest is damaged or states none."""
    try:
        subject = publish.read_manifest(report_manifest).get("subject")
    except InputError:
        return None
    return subject.get("checkpoint_digest") if isinstance(subject, dict) else None
