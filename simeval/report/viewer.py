"""One trial in 3D: a page with the viewer alone, opened in this machine's browser."""

import os
import shlex
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import Any

from simeval.errors import SettingError
from simeval.motion import Motion
from simeval.records import TrialRecord
from simeval.replay import StoredTrial
from simeval.report import html
from simeval.report.scenes import hand_scene, object_scene, trial_scene
from simeval.store import same_result


def check_display() -> None:
    """Find out whether a page can be shown here.

    Raises:
        SettingError: there is no display or no browser; the message says what works without.
    """
    without = "--video FILE.gif needs none, and the file that `simeval report` writes can be opened elsewhere."
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise SettingError(f"--view opens a browser, and there is no display (DISPLAY isn't set). {without}")
    try:
        webbrowser.get()
    except webbrowser.Error:
        raise SettingError(f"--view opens a browser, and there is none (BROWSER can name one). {without}") from None


def open_viewer(stored: StoredTrial, motion: Motion) -> Path:
    """Write a trial's page to a temporary file and open it; return the file, which stays for the browser to read."""
    folder = Path(tempfile.mkdtemp(prefix="simeval-view-"))
    path = folder / f"{stored.record.trial_id}.html"
    path.write_text(viewer_page(stored, motion), encoding="utf-8")
    webbrowser.open(path.as_uri())
    return path


def viewer_page(stored: StoredTrial, motion: Motion) -> str:
    """Return a page with one trial in 3D."""
    record = stored.record
    scene = scene_of(record, motion, describe(record), str(stored.folder))
    scenes = {
        "hand": hand_scene(), "objects": {scene["object"]: object_scene(stored.model)},
        "trials": {record.trial_id: scene},
    }  # fmt: skip
    title = f"Trial {record.trial_id}"
    body = html.header(title, [describe(record)])
    body += f"<main>{html.section('view', '3D view', html.viewer_panel('', choose=False))}</main>"
    return html.page(title, body, {"scenes": scenes})


def scene_of(
    record: TrialRecord, motion: Motion | None, title: str, folder: str, reason: str = ""
) -> dict[str, Any]:  # fmt: skip
    """Return a trial's scene with its title, the command that repeats it, and a note on where its motion is from.

    Args:
        record: as it is stored.
        motion: one run of the trial, or None; `reason` says why.
        title: what the trial is called.
        folder: of its run.
        reason: why there is no motion.
    """
    if motion is None:
        note = f"Commanded pose only: {reason}"
    elif differing := same_result(record, motion.record):
        note = f"Run again for this view, and it is NOT the stored trial: {', '.join(differing)} differ."
    elif not motion.moments:
        note = "Run again for this view; nothing moved: it ended before its simulation began."
    else:
        note = "Run again for this view; its record came out bit for bit as stored."
    return trial_scene(record, motion, note) | {
        "object": object_key(record),
        "title": title,
        "failed": not record.success,
        "command": f"simeval replay {record.trial_id} --run {shlex.quote(folder)} --view",
        "links": [name for name in record.contacts.split(",") if name],
    }


def object_key(record: TrialRecord) -> str:
    """Name of a trial's object at its scale."""
    return f"{record.object_code} @ {record.scale:g}"


def describe(record: TrialRecord) -> str:
    """Return a trial in words: object, type, protocol, outcome."""
    words = [object_key(record), record.grasp_type, f"#{record.index}", record.protocol]
    return f"{', '.join(filter(None, words))}: {record.outcome}{f' ({record.reason})' if record.reason else ''}"
