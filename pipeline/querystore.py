"""Decides which standing queries exist, and which version of each is in force."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import yaml  # type: ignore[import-untyped, unused-ignore]

from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.fields import Fields
from standwatch.pipeline.queries import (
    check_id,
    queries_from_file,
    query_from_mapping,
    to_mapping,
)
from standwatch.pipeline.snapshots import (
    JsonRecord,
    read_snapshot,
    sync_directory,
    write_atomically,
    write_snapshot,
)
from standwatch.pipeline.types import StandingQuery

_FORMAT = 1
_FIX = "restore it from a backup, or delete it (versions then count from 1 again)"
Listing = frozenset[tuple[str, int, int, int]]


class Stored(NamedTuple):
    """What a query directory holds; `problems` name the files that are not in force as they are written."""

    queries: list[StandingQuery]  # by query_id
    problems: list[str]


@dataclass(frozen=True, slots=True)
class _Accepted:
    version: int  # the last one given out; kept when the query is removed, so that no version ever means two things
    query: StandingQuery | None  # as it was last understood; None once removed


class QueryStore:
    """A directory with one `<query_id>.yaml` per query, shared by any number of processes.

    Files may also be edited, added and deleted by hand. `.accepted.json` keeps what was last understood of each:
    other content gets the next version; a file that can no longer be read stays in force as it was, with a problem
    reported; an id that was removed goes on counting when it comes back. Changes happen under a file lock, and every
    file is replaced as a whole, so that readers need no lock.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._accepted_path = directory / ".accepted.json"
        self._seen: Listing | None = None

    def add(self, query: StandingQuery) -> StandingQuery:
        """Add or replace; returns the query with its version. The same content again changes nothing."""
        query_from_mapping(to_mapping(query), f"query {query.query_id!r}")
        with self._locked():
            accepted = self._read_accepted()
            before = accepted.get(query.query_id)
            stored = _next_version(before, query)
            path = self._path(query.query_id)
            if before is not None and before.query == stored and path.exists() and self._holds(path, stored):
                return stored
            # File first: a crash in between leaves new content that the next `load` accepts under a new version.
            content = {key: value for key, value in to_mapping(query).items() if key != "version"}
            text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
            write_atomically(path, text.encode())
            self._write_accepted({**accepted, query.query_id: _Accepted(stored.version, stored)})
            return stored

    def remove(self, query_id: str) -> StandingQuery:
        """Take a query out; returns it. Raises `BadInput` when there is none of this id."""
        removed = self.get(query_id)
        with self._locked():
            self._path(query_id).unlink(missing_ok=True)
            sync_directory(self._directory)
            accepted = self._read_accepted()
            version = max(removed.version, accepted[query_id].version)
            self._write_accepted({**accepted, query_id: _Accepted(version, None)})
        return removed

    def get(self, query_id: str) -> StandingQuery:
        """The query in force under this id. Raises `BadInput` when there is none."""
        check_id(query_id, "query_id")
        queries = {query.query_id: query for query in self.load().queries}
        if query_id not in queries:
            there = ", ".join(queries) or "none"
            raise BadInput(f"query_id: there is no query {query_id!r} in {self._directory}; there are: {there}")
        return queries[query_id]

    def load(self) -> Stored:
        """All queries in force and what is wrong with the rest. One broken file does not touch the others.

        Gives new versions to files that were edited by hand since the last look.
        """
        self._seen = self._listing()
        stored, accepted = self._reconcile(self._read_accepted())
        if accepted is None:
            return stored
        with self._locked():  # someone else may be between writing a file and its version: look again, alone
            self._seen = self._listing()
            stored, accepted = self._reconcile(self._read_accepted())
            if accepted is not None:
                self._write_accepted(accepted)
        return stored

    def changed(self) -> bool:
        """Whether files came, went or were rewritten since the last `load`. Reads no file; cheap enough to poll."""
        return self._listing() != self._seen

    def _reconcile(self, accepted: dict[str, _Accepted]) -> tuple[Stored, dict[str, _Accepted] | None]:
        """What the files say, given what was accepted; the second part is None when that is unchanged."""
        queries: dict[str, StandingQuery] = {}
        problems: list[str] = []
        present: set[str] = set()
        after = dict(accepted)
        for path in self._entries():
            if path.suffix in (".yml", ".json") and not path.name.startswith("."):
                problems.append(f"{path}: is not read; rename it to {path.stem}.yaml")
            if path.suffix != ".yaml":
                continue
            query_id = path.name[: -len(".yaml")]
            before = accepted.get(query_id)
            try:
                query = _next_version(before, _only_query(path, query_id))
            except BadInput as problem:
                if not path.exists():  # removed while we looked
                    continue
                present.add(query_id)
                if before is None or before.query is None:
                    problems.append(str(problem))
                    continue
                query = before.query
                problems.append(f"{problem} (version {query.version} stays in force)")
            present.add(query_id)
            queries[query_id] = query
            after[query_id] = _Accepted(query.version, query)
        for query_id, before in accepted.items():
            if query_id not in present:
                after[query_id] = _Accepted(before.version, None)
        stored = Stored([queries[query_id] for query_id in sorted(queries)], problems)
        return stored, (None if after == accepted else after)

    def _holds(self, path: Path, stored: StandingQuery) -> bool:
        try:
            return replace(_only_query(path, stored.query_id), version=stored.version) == stored
        except BadInput:
            return False

    def _path(self, query_id: str) -> Path:
        return self._directory / f"{query_id}.yaml"

    def _entries(self) -> list[Path]:
        try:
            return sorted(self._directory.iterdir())
        except FileNotFoundError:  # made by the first `add`
            return []

    def _listing(self) -> Listing:
        entries = []
        for path in self._entries():
            if path.suffix in (".yaml", ".yml", ".json") and path != self._accepted_path:
                try:
                    stat = path.stat()
                except FileNotFoundError:
                    continue
                entries.append((path.name, stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return frozenset(entries)

    def _read_accepted(self) -> dict[str, _Accepted]:
        content = read_snapshot(self._accepted_path, _FORMAT, _FIX)
        if content is None:
            return {}
        try:
            ids = Fields(content.get("queries"), str(self._accepted_path), "queries.")
            accepted = {}
            for query_id in content["queries"] if isinstance(content["queries"], dict) else ():
                entry = ids.section(query_id)
                query = entry.get("query")
                known = None if query is None else query_from_mapping(query, entry.path("query"))
                accepted[query_id] = _Accepted(entry.integer("version", 1, 2**53), known)
            return accepted
        except BadInput as error:
            raise BadInput(f"{error}; {_FIX}") from None

    def _write_accepted(self, accepted: dict[str, _Accepted]) -> None:
        entries: JsonRecord = {
            query_id: {
                "version": entry.version,
                "query": None if entry.query is None else to_mapping(entry.query),
            }
            for query_id, entry in accepted.items()
        }
        write_snapshot(self._accepted_path, _FORMAT, {"queries": entries})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _only_query(path: Path, query_id: str) -> StandingQuery:
    queries = queries_from_file(path)
    if len(queries) != 1:
        raise BadInput(f"{path}: holds {len(queries)} queries; here each has its own file")
    if queries[0].query_id != query_id:
        raise BadInput(f"{path}: query_id: is {queries[0].query_id!r}; rename the file to {queries[0].query_id}.yaml")
    return queries[0]


def _next_version(before: _Accepted | None, query: StandingQuery) -> StandingQuery:
    """`query` under the version its content has: the one it had, or the next."""
    if before is None:
        return query
    if before.query is not None and replace(query, version=before.version) == before.query:
        return before.query
    return replace(query, version=max(query.version, before.version + 1))
