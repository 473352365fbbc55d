"""Synthesis as a process: what it needs on the machine, and the way out of CDKTF."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from infra.cdk import blocks
from infra.fork import differences
from tests.infra.support import FIXTURES, ROOT, Stacks, read_stacks


def test_synthesis_needs_nothing_but_the_python_packages(tmp_path: Path) -> None:
    environment = {
        "PATH": str(tmp_path),  # no node, no terraform
        "HOME": os.environ.get("HOME", str(tmp_path)),
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "libs", ROOT / "services"))),
        "CAUDAL_ENV": "dev",
        "CAUDAL_RELEASE": str(FIXTURES / "release.json"),
        "CDKTF_OUTDIR": str(tmp_path / "out"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "infra.main"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "orchestration" in read_stacks(tmp_path / "out")


def test_the_binding_is_imported_module_by_module(environments: dict[str, Stacks]) -> None:
    assert environments
    imported = {name.split(".")[1] for name in sys.modules if name.startswith("cdktf_cdktf_provider_google.")}
    # Its own `__init__` would import more than 1,400.
    assert len(imported) < 100


def test_blocks_in_a_list_are_respelled_and_maps_of_the_user_are_not() -> None:
    assert blocks({"max_retries": 1, "inner": [{"image_uri": "x"}], "labels": {"cost_centre": "y"}}) == [
        {"maxRetries": 1, "inner": [{"imageUri": "x"}], "labels": {"cost_centre": "y"}}
    ]


def stack(folder: Path, document: object) -> Path:
    (folder / "stacks" / "s").mkdir(parents=True)
    (folder / "stacks" / "s" / "cdk.tf.json").write_text(json.dumps(document))
    return folder


def test_two_synthesized_folders_differ_by_what_they_deploy_and_not_by_their_makers_notes(tmp_path: Path) -> None:
    bucket = {"name": "b", "//": {"metadata": "cdktf 0.21"}}
    ours = stack(tmp_path / "ours", {"resource": {"bucket": {"b": bucket}}})
    same = stack(tmp_path / "same", {"resource": {"bucket": {"b": {"name": "b", "//": "cdktn 0.23"}}}})
    other = stack(tmp_path / "other", {"resource": {"bucket": {"b": {"name": "c"}}}})
    assert differences(ours, same) == []
    assert differences(ours, other) == ["s: /resource/bucket/b/name is 'b' and 'c'"]
