import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from standwatch.pipeline.errors import BadInput
from standwatch.pipeline.querystore import QueryStore
from tests.questions_world import QUERY


@pytest.fixture
def store(tmp_path: Path) -> QueryStore:
    return QueryStore(tmp_path / "queries")


def test_looking_into_a_store_that_is_not_there_makes_none(tmp_path: Path) -> None:
    assert QueryStore(tmp_path / "q").load() == ([], [])
    assert not (tmp_path / "q").exists()


def test_the_same_content_again_keeps_the_version(store: QueryStore) -> None:
    assert store.add(QUERY).version == 1
    assert store.add(replace(QUERY, version=9)).version == 1


def test_other_content_gets_the_next_version(store: QueryStore) -> None:
    store.add(QUERY)
    changed = store.add(replace(QUERY, every_ms=20_000))
    assert changed.version == 2
    assert store.get("person") == changed


def test_going_back_to_old_content_is_a_new_version(store: QueryStore) -> None:
    store.add(QUERY)
    store.add(replace(QUERY, open_at=0.9))
    assert store.add(QUERY).version == 3


def test_a_removed_query_is_gone_and_never_reuses_a_version(store: QueryStore) -> None:
    store.add(QUERY)
    assert store.remove("person").query_id == "person"
    assert store.load() == ([], [])
    assert store.add(QUERY).version == 2


@pytest.mark.parametrize("ask", [QueryStore.get, QueryStore.remove])
def test_an_unknown_id_is_refused_with_the_ones_there_are(store: QueryStore, ask: object) -> None:
    store.add(QUERY)
    assert callable(ask)
    with pytest.raises(BadInput, match=r"'nobody'.*person"):
        ask(store, "nobody")


def test_an_id_cannot_leave_the_directory(store: QueryStore) -> None:
    with pytest.raises(BadInput, match="query_id"):
        store.get("../person")
    with pytest.raises(BadInput, match="query_id"):
        store.add(replace(QUERY, query_id="../person"))


def test_a_file_edited_by_hand_gets_a_new_version(store: QueryStore, tmp_path: Path) -> None:
    store.add(QUERY)
    path = tmp_path / "queries" / "person.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "every": "1m"}))
    assert [(q.version, q.every_ms) for q in store.load().queries] == [(2, 60_000)]
    assert [q.version for q in QueryStore(tmp_path / "queries").load().queries] == [2]


def test_a_file_dropped_in_by_hand_is_taken_and_one_deleted_is_gone(store: QueryStore, tmp_path: Path) -> None:
    store.add(QUERY)
    (tmp_path / "queries" / "dog.yaml").write_text("query_id: dog\nquestion: Is there a dog?")
    assert [q.query_id for q in store.load().queries] == ["dog", "person"]
    (tmp_path / "queries" / "dog.yaml").unlink()
    assert [q.query_id for q in store.load().queries] == ["person"]


def test_a_broken_file_is_reported_and_stops_no_other(store: QueryStore, tmp_path: Path) -> None:
    store.add(QUERY)
    (tmp_path / "queries" / "cat.yaml").write_text("query_id: cat")
    (tmp_path / "queries" / "two.yaml").write_text("query_id: other\nquestion: x")
    (tmp_path / "queries" / "dog.yml").write_text("query_id: dog\nquestion: x")
    queries, problems = store.load()
    assert [q.query_id for q in queries] == ["person"]
    assert len(problems) == 3
    assert "cat.yaml: question: is missing" in problems[0]
    assert "rename it to dog.yaml" in problems[1]
    assert "rename the file to other.yaml" in problems[2]


def test_a_query_broken_by_an_edit_stays_in_force_as_it_was(store: QueryStore, tmp_path: Path) -> None:
    store.add(QUERY)
    (tmp_path / "queries" / "person.yaml").write_text("query_id: person\nquestion: ''")
    for looking in (store, QueryStore(tmp_path / "queries")):
        queries, problems = looking.load()
        assert queries == [QUERY]
        assert "version 1 stays in force" in problems[0]
    assert store.add(QUERY).version == 1, "adding repairs the file"
    assert store.load() == ([QUERY], [])


def test_changed_is_true_until_the_change_was_loaded(store: QueryStore, tmp_path: Path) -> None:
    assert store.changed()
    store.load()
    assert not store.changed()
    other = QueryStore(tmp_path / "queries")
    other.add(QUERY)
    assert store.changed()
    store.load()
    assert not store.changed()
    other.add(QUERY)
    assert not store.changed(), "the same content again is no change"
    path = tmp_path / "queries" / "person.yaml"
    os.utime(path, ns=(1, 1))
    assert store.changed()
    store.load()
    other.remove("person")
    assert store.changed()


def test_a_store_whose_versions_cannot_be_read_is_refused_with_the_fix(store: QueryStore, tmp_path: Path) -> None:
    store.add(QUERY)
    for content in ("{", "[]", '{"format": 2}', '{"format": 1}', '{"format": 1, "queries": {"a": {}}}'):
        (tmp_path / "queries" / ".accepted.json").write_text(content)
        with pytest.raises(BadInput, match=r"\.accepted\.json: .*delete it"):
            store.load()


def _add_many(directory: Path, worker: int) -> None:
    store = QueryStore(directory)
    for turn in range(5):
        store.add(replace(QUERY, question=f"worker {worker} turn {turn}?"))
        store.add(replace(QUERY, query_id=f"own-{worker}"))


def test_processes_that_write_at_once_lose_no_query_and_no_version(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add_many, args=(tmp_path, worker)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    queries, problems = QueryStore(tmp_path).load()
    assert problems == []
    assert {q.query_id: q.version for q in queries} == {"person": 15, "own-0": 1, "own-1": 1, "own-2": 1}
