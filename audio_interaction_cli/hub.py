"""Fetches a checkpoint from the hub and tells whether one that was fetched is whole.

Knows huggingface_hub, which takes up a broken connection by itself and keeps whole files from run to run, and what its
failures mean to people; nothing of what the files hold.
"""

import errno
import glob
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any, Self

from audio_interaction_cli.errors import DownloadError
from audio_interaction_cli.quantities import size

Progress = Callable[[int, int], object]
"""Called with bytes there so far and bytes in all."""

ATTEMPTS = 5  # in a row without a byte of progress; the library tries each file five times itself
LONGEST_PAUSE_S = 20.0
POLL_S = 0.2
REACH_S = 5.0
STALE_S = 600.0  # a part of a file that has not grown for so long is of a run that was killed
TOKEN = "set HF_TOKEN, or pass --token; hf auth login keeps one"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of the checkpoint, and whether it is here already."""

    name: str
    size_bytes: int
    here: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """What is to be fetched, and where to: the hub cache, or `local_dir`."""

    hub_id: str
    revision: str | None = None
    local_dir: Path | None = None
    token: str | None = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    force: bool = False

    def plan(self) -> list[RemoteFile]:
        """Ask the hub which files there are. DownloadError if it cannot be asked, or has none."""
        with explained(self):
            found = self._snapshot(dry_run=True, tqdm_class=_meter(lambda _: None))
        files = [RemoteFile(file.filename, file.file_size or 0, not file.will_download) for file in found]
        if not files:
            raise DownloadError(f"{self.hub_id} has no files of that kind", "see --include and --exclude")
        return sorted(files, key=lambda file: file.name)

    @property
    def free_bytes(self) -> int:
        """Free space where it is to go."""
        folder = self._place()
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return shutil.disk_usage(folder).free

    @contextmanager
    def alone(self, waiting: Callable[[], object]) -> Iterator[None]:
        """Keep other downloads of ours from the same place, whose files would be taken away by turns.

        `waiting` is called if one is at it; then it is waited for.
        """
        from filelock import FileLock, Timeout

        folder = self.local_dir / ".cache" / "huggingface" if self.local_dir else self._place() / ".locks"
        with explained(self):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / f"ai-cli-{self.hub_id.replace('/', '--')}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                waiting()
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def fetch(self, files: Sequence[RemoteFile], progress: Progress) -> Path:
        """Fetch what is missing and return the folder. A connection that breaks is taken up again.

        DownloadError if the disk cannot hold it, before anything is fetched, or for what cannot be mended by
        trying again; whole files stay and are not fetched twice. Parts of files go, at the latest with the next
        fetch: the library begins a file anew under another name, so they would only take room.
        """
        there, now = self._parts(), time.time()  # noqa: TID251 - the clock of file systems
        _remove(part for part in there if now - _changed(part) > STALE_S)
        here = sum(file.size_bytes for file in files if file.here)
        total = sum(file.size_bytes for file in files)
        if (missing := total - here) > self.free_bytes:
            raise DownloadError(
                f"{size(missing)} are to be fetched, and {self._place()} has only {size(self.free_bytes)} free",
                "free some space, or choose another place with --local-dir or HF_HOME",
            )
        meter = _meter(lambda fetched: progress(min(here + fetched, total), total))
        attempts, fetched_before = 0, 0
        while True:
            try:
                with explained(self):
                    return Path(_waited_for(lambda: self._snapshot(tqdm_class=meter)))
            except KeyboardInterrupt:
                _remove(self._parts() - there)
                raise
            except DownloadError as error:
                attempts = 1 if meter.fetched_bytes > fetched_before else attempts + 1
                fetched_before = meter.fetched_bytes
                if not error.passing or attempts == ATTEMPTS:
                    raise
            time.sleep(min(2.0**attempts / 2, LONGEST_PAUSE_S))

    def folder(self) -> Path:
        """Where it is, if it has been fetched; DownloadError if not."""
        with explained(self):
            return Path(self._snapshot(local_files_only=True))

    def differing(self) -> list[str]:
        """Names of files whose size or hash is not what the hub states; DownloadError if some are not here."""
        from huggingface_hub import HfApi

        with explained(self):
            there = HfApi(token=self.token).verify_repo_checksums(
                self.hub_id, revision=self.revision, local_dir=self.local_dir
            )
        if missing := [name for name in there.missing_paths if not (self.include or self.exclude)]:
            raise DownloadError(f"not there yet: {', '.join(missing)}", "run ai-cli download again; it goes on")
        return [mismatch["path"] for mismatch in there.mismatches]

    def anew(self, names: Sequence[str]) -> Self:
        """Only these files of it, though they are here."""
        return replace(self, include=[glob.escape(name) for name in names], exclude=(), force=True)

    def _place(self) -> Path:
        from huggingface_hub.constants import HF_HUB_CACHE

        return (self.local_dir or Path(HF_HUB_CACHE)).absolute()

    def _parts(self) -> set[Path]:
        """Files that are on their way, of all who fetch this."""
        cached = self._place() / f"models--{self.hub_id.replace('/', '--')}" / "blobs"
        return set((self.local_dir / ".cache" / "huggingface" if self.local_dir else cached).rglob("*.incomplete"))

    def _snapshot(self, **more: Any) -> Any:
        from huggingface_hub import snapshot_download

        return snapshot_download(
            self.hub_id, revision=self.revision, local_dir=self.local_dir, token=self.token,
            allow_patterns=list(self.include) or None, ignore_patterns=list(self.exclude) or None,
            force_download=self.force, **more,
        )  # fmt: skip


def reach(hub_id: str) -> str:
    """Ask the hub for a checkpoint and return the hub's address; DownloadError if it does not answer."""
    from huggingface_hub import HfApi

    with explained(Download(hub_id=hub_id)):
        api = HfApi()
        api.model_info(hub_id, timeout=REACH_S)
        return str(api.endpoint)


def _remove(parts: Iterable[Path]) -> None:
    for part in parts:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _changed(part: Path) -> float:
    """When it was last written to; never past, if it has gone."""
    try:
        return part.stat().st_mtime
    except OSError:
        return math.inf


def _waited_for(work: Callable[[], Any]) -> Any:
    """The result of work that is done in another thread, so that an interruption need not wait for its threads."""
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=run, name="download", daemon=True).start()
    while not done.done():
        wait([done], timeout=POLL_S)
    return done.result()


def _meter(told: Callable[[int], object]) -> Any:
    """A class of progress bars that shows nothing and tells how many bytes have come."""
    from tqdm.auto import tqdm

    class Meter(tqdm):  # type: ignore[misc]
        fetched_bytes = 0

        def display(self, *_: Any, **__: Any) -> None:
            """The terminal is ours."""

        def update(self, n: float | None = 1) -> None:
            super().update(n)
            if self.unit == "B":
                Meter.fetched_bytes = max(Meter.fetched_bytes, int(self.n))
                told(Meter.fetched_bytes)

    return Meter


@contextmanager
def explained(download: Download) -> Iterator[None]:
    """The library's failures as a DownloadError that says what to do."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    try:
        yield
    except (HTTPError, OSError, ValueError) as error:
        cause = _cause(error)
        raise _of_name(cause, download) or _of_connection(cause, download.hub_id) from error


def _cause(error: BaseException) -> BaseException:
    """What kept the library from asking, which it tells only as the cause of what it could not do then."""
    from huggingface_hub.errors import DryRunError, IncompleteSnapshotError, LocalEntryNotFoundError

    while isinstance(error, DryRunError | IncompleteSnapshotError | LocalEntryNotFoundError) and error.__cause__:
        error = error.__cause__
    return error


def _of_name(error: BaseException, download: Download) -> DownloadError | None:
    """What is wrong with what was asked for, if that is it."""
    from huggingface_hub import errors

    hub_id = download.hub_id
    match error:
        case errors.GatedRepoError():
            hint = "ask for access on its page, then " + TOKEN
            return DownloadError(f"{hub_id} is not open to everyone, and access was refused", hint)
        case errors.RevisionNotFoundError():
            return DownloadError(f"{hub_id} has no revision {download.revision}", "see --revision")
        case errors.RepositoryNotFoundError():
            hint = f"check the name; if it is private, {TOKEN}"
            return DownloadError(f"the hub has no {hub_id}, or hides it from us", hint)
        case errors.HFValidationError():
            return DownloadError(f"{hub_id} is not a hub id", "it looks like owner/name")
        case ValueError():  # there is nothing to verify
            return DownloadError(f"there is nothing of {hub_id} here", "fetch it: ai-cli download")
        case _:
            return None


def _of_connection(error: BaseException, hub_id: str) -> DownloadError:
    """What keeps us from the hub, or from the disk."""
    from huggingface_hub import errors

    match error:
        case errors.HfHubHTTPError():
            return _of_status(error.response.status_code, hub_id)
        case errors.OfflineModeIsEnabled():
            return DownloadError("HF_HUB_OFFLINE forbids asking the hub", "unset it to download")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG):
            message = "the disk is full; the files that are whole are kept"
            return DownloadError(message, "free some space and run the same again; it goes on")
        case PermissionError() | NotADirectoryError() | FileExistsError() | OSError(errno=errno.EROFS):
            message = f"cannot write to {error.filename or 'that place'}: {error.strerror or error}"
            return DownloadError(message, "choose another place with --local-dir or HF_HOME")
        case OSError() if "Consistency check failed" in str(error):
            return DownloadError("a file came incomplete", "run the same again; it goes on", passing=True)
        case _:
            reason = str(error).strip() or type(error).__name__
            hint = "check the connection, HTTPS_PROXY and HF_ENDPOINT, then run the same again; it goes on"
            return DownloadError(f"the hub cannot be reached: {reason}", hint, passing=True)


def _of_status(status: int, hub_id: str) -> DownloadError:
    if status in (401, 403):
        return DownloadError(f"the hub refuses us {hub_id} (status {status})", TOKEN)
    if status == 429:
        return DownloadError("the hub has had too many requests from here (status 429)", "wait some minutes")
    if status >= 500:
        return DownloadError(f"the hub is out of order (status {status})", "try again later; it goes on", passing=True)
    return DownloadError(f"the hub answered with status {status}", "is HF_ENDPOINT right?")
