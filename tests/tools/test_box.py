"""The box's own logic: which kernel, what is missing, what its end means. No box is started here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import box as box_tool
import pytest

TOOL = Path(box_tool.__file__)


@pytest.fixture
def box() -> ModuleType:
    return box_tool


def test_the_newest_kernel_that_is_no_cloud_kernel_and_has_modules(box, tmp_path):
    boot, modules = tmp_path / "boot", tmp_path / "modules"
    for version in ("6.1.0-9-amd64", "6.1.0-56-amd64", "6.1.0-57-cloud-amd64", "6.12.0-1-amd64"):
        (boot / f"vmlinuz-{version}").parent.mkdir(exist_ok=True)
        (boot / f"vmlinuz-{version}").touch()
        if not version.startswith("6.12"):
            (modules / version).mkdir(parents=True)
    assert box.newest_kernel(boot, modules) == boot / "vmlinuz-6.1.0-56-amd64"


def test_no_kernel_names_the_packages(box, tmp_path):
    with pytest.raises(box.BoxError, match=r"apt install .*linux-image-amd64"):
        box.newest_kernel(tmp_path, tmp_path)


def test_a_missing_qemu_names_the_packages_and_exits_with_2(box, monkeypatch, capsys):
    monkeypatch.setattr(box, "newest_kernel", lambda: TOOL)
    monkeypatch.setattr(box, "search_path", lambda: str(Path(sys.executable).parent))
    assert box.main(["--", "true"]) == 2
    assert "apt install" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["/tmp/a b", "/tmp/a,b"])
def test_a_path_that_qemu_would_cut_up_is_refused(box, path):
    with pytest.raises(box.BoxError, match="without spaces and commas"):
        box.share(path, "tag")


def test_the_status_comes_from_the_file(box, tmp_path):
    (tmp_path / "status").write_text("7\n")
    assert box.status_of(tmp_path, in_time=True, timeout=1) == 7


@pytest.mark.parametrize(
    ("in_time", "status", "words"), [(False, 124, "had not finished"), (True, 125, "ended before")]
)
def test_a_box_without_a_status_shows_the_end_of_its_console(box, tmp_path, capsys, in_time, status, words):
    (tmp_path / "console").write_text("\n".join(f"line {n}" for n in range(100)))
    assert box.status_of(tmp_path, in_time=in_time, timeout=9) == status
    shown = capsys.readouterr().err
    assert words in shown
    assert "line 99" in shown
    assert "line 10\n" not in shown


def test_the_command_is_run_in_the_folder_and_the_rwdirs_are_mounted(box, tmp_path):
    made = box.Box(folder=tmp_path, rwdirs=[tmp_path / "out"]).script(["echo", "a b"], Path("/tmp/scratch"))
    assert f"cd {tmp_path} && echo 'a b' > /tmp/scratch/output 2>&1" in made
    assert f"nine rw0 {tmp_path / 'out'} rw" in made
    assert subprocess.run(["sh", "-n"], input=made, text=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("statuses", "attempts", "runs", "end"),
    [([125, 0], 2, 2, 0), ([124, 125], 2, 2, 125), ([1, 0], 2, 1, 1), ([125, 0], 1, 1, 125), ([0], 2, 1, 0)],
)
def test_a_box_that_dies_is_started_again_and_a_command_that_fails_is_not(
    box, monkeypatch, statuses, attempts, runs, end
):
    said = iter(statuses)
    started = []
    monkeypatch.setattr(box.Box, "run", lambda self, command, timeout: started.append(command) or next(said))
    assert box.main(["--attempts", str(attempts), "--", "true"]) == end
    assert len(started) == runs


def test_no_attempt_at_all_is_refused(box, capsys):
    with pytest.raises(SystemExit) as end:
        box.main(["--attempts", "0", "--", "true"])
    assert end.value.code == 2
    assert "--attempts" in capsys.readouterr().err
