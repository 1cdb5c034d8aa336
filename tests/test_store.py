import errno
import json
import math
import os
import signal
import struct
import subprocess
import sys
import time
from dataclasses import asdict, fields, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import simeval.store as store_module
from simeval.errors import DataError, SettingError
from simeval.records import TIMING_FIELDS, Outcome, TrialRecord
from simeval.store import RunStore, delete_run, read_run, same_result

MANIFEST = {"generator": "replay", "settings": {"squeeze": 0.1, "steps": [1, 2]}, "volatile": {"host": "a"}}


def record(index: int, **changes: object) -> TrialRecord:
    made = TrialRecord(
        trial_id=f"{index:016x}", condition_id=f"c{index}", object_code="mug", scale=0.1, grasp_type="",
        index=index, protocol="lift", physics="p", seed=0, outcome=Outcome.LIFTED, lift_m=0.1 + 0.2,
        slip_m=5e-324, tilt_rad=-0.0, directions_held=6, rotation=[1 / 3] * 9,
        joints=[math.nan, math.inf, 1e22],
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def fill(path: Path, count: int) -> None:
    with RunStore.open(path, MANIFEST) as store:
        for i in range(count):
            store.append(record(i))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PART_SIZE", 4)


@pytest.mark.usefixtures("small_parts")
def test_records_come_back_bit_for_bit_from_journal_and_parts(tmp_path: Path) -> None:
    with RunStore.open(tmp_path, MANIFEST) as store:
        for i in reversed(range(10)):
            store.append(record(i))
        before = store.records()  # 8 from parts, 2 from the journal
        assert store.done_ids() == {f"{i:016x}" for i in range(10)}
    after = read_run(tmp_path).records
    assert [r.index for r in before] == [r.index for r in after] == list(range(10))
    for i, (a, b) in enumerate(zip(before, after, strict=True)):
        assert same_result(a, b) == same_result(a, replace(record(i), directions_held=6.0)) == []
        assert math.isnan(a.score)
        assert type(b.directions_held) is float
        assert type(b.outcome) is str
    assert (tmp_path / "journal.jsonl").read_bytes() == b""
    assert len(list((tmp_path / "parts").iterdir())) == 3


def test_parquet_schema_is_explicit(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    schema = pq.read_schema(tmp_path / "parts/part-00000.parquet")
    assert schema.names == [f.name for f in fields(TrialRecord)]
    assert schema.field("seed").type == pa.int64()
    assert schema.field("rotation").type == pa.list_(pa.float64())
    assert schema.metadata[b"simeval_record_schema"] == b"2"


def test_manifest_is_kept_and_its_volatile_part_ignored_on_resume(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    with RunStore.open(tmp_path, MANIFEST | {"volatile": {"host": "b"}}) as store:
        assert store.done_ids() == {f"{i:016x}" for i in range(2)}
        assert store.manifest["volatile"] == {"host": "a"}
    assert read_run(tmp_path).manifest == MANIFEST


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    other = {"generator": "replay", "settings": {"squeeze": 0.2, "steps": (1, 2)}, "suite": "quick"}
    with pytest.raises(SettingError) as caught:
        RunStore.open(tmp_path, other)
    message = str(caught.value)
    assert "settings.squeeze: 0.1 there, 0.2 now" in message
    assert 'suite: (not set) there, "quick" now' in message
    assert "--out" in message
    assert "steps" not in message
    assert "volatile" not in message
    RunStore.open(tmp_path, MANIFEST).close()  # the refusal released the lock


def test_one_writer_at_a_time_but_any_reader(tmp_path: Path) -> None:
    with RunStore.open(tmp_path, MANIFEST) as store:
        store.append(record(0))
        with pytest.raises(DataError, match="another run is writing"):
            RunStore.open(tmp_path, MANIFEST)
        assert len(read_run(tmp_path).records) == 1
    RunStore.open(tmp_path, MANIFEST).close()
    with pytest.raises(DataError, match="closed"):
        store.append(record(1))


def test_truncated_last_line_is_dropped_and_written_over(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    with RunStore.open(tmp_path, MANIFEST) as store:
        store.append(record(0))
        store.append(record(1))
        text = journal.read_bytes()
    (tmp_path / "parts/part-00000.parquet").unlink()
    for cut in (text[:-1], text[:-40], text[: len(text) // 2 + 1], text[: text.index(b"\n") + 1] + b"\0" * 9):
        journal.write_bytes(cut)
        assert [r.index for r in read_run(tmp_path).records] == [0]
    store = RunStore.open(tmp_path, MANIFEST)
    store.append(record(1))
    assert journal.read_bytes() == text
    store.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: b"{half a line",
        lambda line: b"[1, 2]",
        lambda line: line.replace(b'"scale": 0.1', b'"scale": "big"'),
        lambda line: line.replace(b'"scale": 0.1, ', b""),
        lambda line: b"\xff\xfe" + line,
        lambda line: b"",
    ],
)
def test_corrupt_journal_names_file_and_line(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    fill(tmp_path, 0)
    lines = [json.dumps(asdict(record(i, directions_held=6.0))).encode() for i in range(3)]
    (tmp_path / "journal.jsonl").write_bytes(b"\n".join([lines[0], damage(lines[1]), lines[2], b""]))
    with pytest.raises(DataError, match=r"journal\.jsonl, line 2"):
        read_run(tmp_path)
    with pytest.raises(DataError, match=r"journal\.jsonl, line 2"):
        RunStore.open(tmp_path, MANIFEST)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_corrupt_part_names_the_file(tmp_path: Path, damage: str) -> None:
    fill(tmp_path, 50)
    part = tmp_path / "parts/part-00000.parquet"
    data = bytearray(part.read_bytes())
    data[60] ^= 0xFF
    part.write_bytes({"truncate": bytes(data[:-100]), "flip": bytes(data), "empty": b""}[damage])
    with pytest.raises(DataError, match=r"part-00000\.parquet"):
        read_run(tmp_path)


def test_other_schema_version_is_a_clear_error(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    part = tmp_path / "parts/part-00000.parquet"
    table = pq.read_table(part)
    pq.write_table(table.replace_schema_metadata({b"simeval_record_schema": b"7"}), part)
    with pytest.raises(DataError, match=r"part-00000.*schema 7; this simeval reads schema 2"):
        read_run(tmp_path)
    part.unlink()
    (tmp_path / "journal.jsonl").write_text(json.dumps({"trial_id": "x", "schema": 7}) + "\n")
    with pytest.raises(DataError, match=r"line 1 was written with record schema 7"):
        read_run(tmp_path)


def test_crash_between_part_and_journal_neither_loses_nor_doubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore.open(tmp_path, MANIFEST)
    for i in range(3):
        store.append(record(i))
    with monkeypatch.context() as patch:
        patch.setattr(store_module.os, "ftruncate", fail(errno.EIO))
        with pytest.raises(DataError):
            store.close()
    assert (tmp_path / "journal.jsonl").stat().st_size > 0
    assert len(read_run(tmp_path).records) == 3
    fill(tmp_path, 4)
    assert [r.index for r in read_run(tmp_path).records] == [0, 1, 2, 3]


def test_last_record_of_a_trial_counts(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    with RunStore.open(tmp_path, MANIFEST) as store:
        store.append(record(1, outcome=Outcome.DROPPED))
        assert [r.outcome for r in store.records()] == ["LIFTED", "DROPPED"]
    assert [r.outcome for r in read_run(tmp_path).records] == ["LIFTED", "DROPPED"]


def fail(code: int):  # type: ignore[no-untyped-def]
    def raising(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return raising


def test_full_disk_keeps_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_write = os.write

    def half_then_full(fd: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really_write(fd, data[: len(data) - 50])

    store = RunStore.open(tmp_path, MANIFEST)
    store.append(record(0))
    with monkeypatch.context() as patch:
        patch.setattr(store_module.os, "write", half_then_full)
        patch.setattr(Path, "write_bytes", fail(errno.ENOSPC))
        with pytest.raises(DataError, match=r"No space left.*resume"):
            store.append(record(1))
        with pytest.raises(DataError, match="No space left"):
            store.close()
    assert not list(tmp_path.glob("parts/*"))
    fill(tmp_path, 2)
    assert [r.index for r in read_run(tmp_path).records] == [0, 1]


def test_first_error_is_the_one_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        with RunStore.open(tmp_path, MANIFEST) as store:
            store.append(record(0))
            monkeypatch.setattr(store_module.os, "write", fail(errno.ENOSPC))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    monkeypatch.undo()
    assert len(read_run(tmp_path).records) == 1


def test_half_files_of_killed_runs_are_swept_up(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    for name in ("parts/.part-00001-77.parquet", ".manifest-77.json"):
        (tmp_path / name).write_text("half")
    fill(tmp_path, 2)
    assert {p.name for p in tmp_path.rglob("*")} == {
        ".lock", "journal.jsonl", "manifest.json", "parts", "part-00000.parquet", "part-00001.parquet",
    }  # fmt: skip


CHILD = """
import os, resource, sys, time
from pathlib import Path
from dataclasses import replace
from simeval import store as store_module
from simeval.store import RunStore
from simeval.records import TrialRecord
store_module.PART_SIZE = int(sys.argv[2])
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
store = RunStore.open(sys.argv[1], {})
if len(sys.argv) == 3 and os.fork() == 0:
    Path(sys.argv[1], "worker").write_text(str(os.getpid()))
    time.sleep(60)
    os._exit(0)
for i in range(2_000):
    store.append(TrialRecord(f"{i:016x}", "c", "mug", 0.1, "", i, "lift", "p", 0, "LIFTED"))
    print(i, flush=True)
"""


def test_kill_9_loses_no_finished_record(tmp_path: Path) -> None:
    output, worker = tmp_path / "output", tmp_path / "run/worker"
    command = [sys.executable, "-c", CHILD, str(tmp_path / "run"), "40"]
    with output.open("w") as stream:
        child = subprocess.Popen(command, stdout=stream)
    deadline = time.monotonic() + 30
    while output.read_text().count("\n") < 150 and time.monotonic() < deadline:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    try:
        finished = output.read_text().count("\n")
        with RunStore.open(tmp_path / "run", {}) as store:  # though the forked worker lives on
            assert 150 <= finished <= len(store.done_ids()) <= finished + 1
        records = read_run(tmp_path / "run").records
        assert [r.index for r in records] == list(range(len(records)))
    finally:
        os.kill(int(worker.read_text()), signal.SIGKILL)


@pytest.mark.parametrize(("part_size", "file"), [(10_000, "journal.jsonl"), (3, "part-00000.parquet")])
def test_file_size_limit_is_a_clear_error(tmp_path: Path, part_size: int, file: str) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(part_size), "7000"]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert child.returncode == 1
    assert "DataError" in child.stderr
    assert f"{file}: File too large" in child.stderr
    assert len(read_run(tmp_path).records) >= len(child.stdout.split()) > 0


@pytest.mark.usefixtures("small_parts")
def test_a_stray_copy_of_a_part_is_no_part(tmp_path: Path) -> None:
    fill(tmp_path, 12)
    first = min((tmp_path / "parts").iterdir())
    (tmp_path / "parts" / f"{first.stem} (1).parquet").write_bytes(b"half a cop")
    assert len(read_run(tmp_path).records) == 12
    fill(tmp_path, 24)
    assert len(read_run(tmp_path).records) == 24


def test_a_run_is_deleted_whatever_state_it_is_in_unless_it_is_being_written(tmp_path: Path) -> None:
    run = tmp_path / "run"
    fill(run, 2)
    with RunStore.open(run, MANIFEST), pytest.raises(DataError, match="another run is writing"):
        delete_run(run)
    (run / "journal.jsonl").write_text("{\n")
    (run / "manifest.json").write_text("{")
    delete_run(run)
    assert not run.exists()


def test_not_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a run folder"):
        read_run(tmp_path / "nowhere")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(DataError, match="file"):
        RunStore.open(file, MANIFEST)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"manifest\.json is not JSON"):
        read_run(tmp_path)
    for key, value in (("versions", 17), ("physics", "x"), ("protocols", {})):
        (tmp_path / "manifest.json").write_text(json.dumps({**MANIFEST, key: value}))
        with pytest.raises(DataError, match=f"is damaged: {key} can't be"):
            read_run(tmp_path)
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="is not JSON"):
        read_run(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/journal.jsonl").write_text("")
    with pytest.raises(DataError, match=r"no manifest\.json"):
        RunStore.open(tmp_path / "other", MANIFEST)


def test_unstorable_values_are_refused_before_writing(tmp_path: Path) -> None:
    with RunStore.open(tmp_path, MANIFEST) as store:
        with pytest.raises(DataError, match="seed"):
            store.append(record(0, seed=2**63))
        store.append(record(0, reason="lone \ud800 surrogate\nand line"))
    assert read_run(tmp_path).records[0].reason == "lone ? surrogate\nand line"


def test_same_result_is_bit_exact() -> None:
    a = record(0)
    other_nan = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]
    assert same_result(a, replace(a, wall_s=1.0, cpu_s=2.0, score=other_nan)) == []
    assert same_result(a, replace(a, lift_m=0.3, tilt_rad=0.0, joints=[1.0])) == [
        "lift_m",
        "tilt_rad",
        "joints",
    ]
    assert set(TIMING_FIELDS) == {"wall_s", "cpu_s"}


def test_import_is_light() -> None:
    heavy = "{'pyarrow', 'scipy', 'rich', 'torch'}"
    code = f"import sys, simeval.store, simeval.stats; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
