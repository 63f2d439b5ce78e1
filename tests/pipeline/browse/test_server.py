"""The server answers this machine only, reads only, and says what is wrong."""

import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from pipeline.browse.server import browse
from pipeline.errors import MidframeError
from pipeline.selection.patches import sample
from pipeline.selection.triplets import Source
from pipeline.store.patch_store import STORE, shard_file
from tests.conftest import SMALL_PATCHES, directory_bytes
from tests.pipeline.browse.conftest import ROOT, serving

TIMEOUT = 20


def test_it_serves_pages_and_pictures_and_ends_on_ctrl_c(
    copied: Callable[[], Path], evaluations: list[Path]
) -> None:
    patches = copied()
    before = directory_bytes(patches)
    with serving(patches, *evaluations) as server:
        base = server.address
        assert base.startswith("http://127.0.0.1:")
        for path in ("/", "/models", "/assets/main.js", "/assets/style.css"):
            answer = requests.get(base + path, timeout=TIMEOUT)
            assert answer.ok
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        store = f"{base}/api/stores/0"
        told = requests.get(f"{store}/columns", timeout=TIMEOUT).json()
        now = told["generation"]
        rows = requests.get(f"{store}/rows?count=3", timeout=TIMEOUT).json()
        assert rows["total"] == rows["of"] == 48
        for path in ("tiles/0/{}/0/128", "tiles/0/{}/40/64", "views/0/{}/0/flow"):
            answer = requests.get(f"{base}/{path.format(now)}", timeout=TIMEOUT)
            assert answer.headers["Content-Type"] == "image/jpeg"
            assert "immutable" in answer.headers["Cache-Control"]
        for what in ("truth", "prediction", "error"):
            place = f"{base}/evaluations/1/{what}?sequence=cut&first_frame=0"
            assert requests.get(place, timeout=TIMEOUT).headers["Content-Type"] == "image/png"
        found = requests.get(f"{store}/rows?sort=-motion&find=7", timeout=TIMEOUT).json()
        assert found["rows"][found["found"]]["row"] == 7
        assert server.interrupt() == 0
    assert directory_bytes(patches) == before


def test_fifty_tabs_at_a_time_are_answered(copied: Callable[[], Path]) -> None:
    together = threading.Barrier(50)
    with serving(copied()) as server, ThreadPoolExecutor(50) as tabs:
        store = f"{server.address}/api/stores/0"
        now = requests.get(f"{store}/columns", timeout=TIMEOUT).json()["generation"]

        def tab(number: int) -> int:
            # What a page asks for, over one connection that stays open to the end.
            with requests.Session() as session:
                together.wait(120)
                asked = [f"{store}/columns", f"{store}/what-if?what_if=motion_scale:{number + 1}"]
                asked += [f"{store}/rows?motion={number / 50}~&sort=-motion"]
                asked += [f"{server.address}/tiles/0/{now}/{row}/96" for row in (number % 48, 3)]
                answered = sum(session.get(place, timeout=60).ok for place in asked)
                together.wait(120)
                return answered

        assert list(tabs.map(tab, range(50))) == [5] * 50


def test_ctrl_c_ends_it_while_tiles_load(copied: Callable[[], Path]) -> None:
    with serving(copied()) as server, ThreadPoolExecutor(16) as tabs:
        columns = requests.get(f"{server.address}/api/stores/0/columns", timeout=TIMEOUT)
        now, loading = columns.json()["generation"], threading.Event()

        def tab(number: int) -> None:
            with requests.Session() as session:
                for row in range(10**6):
                    place = f"/tiles/0/{now}/{(row + number) % 48}/{(64, 96, 384)[row % 3]}"
                    try:
                        session.get(server.address + place, timeout=TIMEOUT)
                    except requests.ConnectionError:
                        return
                    if row == 3:
                        loading.set()

        ended = [tabs.submit(tab, number) for number in range(16)]
        assert loading.wait(60)
        assert server.interrupt() == 0
        for one in ended:
            one.result(60)
        assert server.process.stderr is not None
        assert server.process.stderr.read().splitlines() == ["Ctrl-C ends it"]


def test_foreign_hosts_paths_outside_and_other_content_are_refused(
    copied: Callable[[], Path], evaluations: list[Path]
) -> None:
    with serving(copied(), *evaluations) as server:
        base = server.address
        host, port = base.removeprefix("http://").split(":")

        def raw(path: str, name: str = host) -> int:
            with socket.create_connection((host, int(port)), timeout=TIMEOUT) as line:
                line.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
                )
                return int(line.makefile("rb").readline().split()[1])

        assert raw("/") == 200
        assert raw("/", "evil.example") == 400
        assert raw("/assets/../app.py") == 404
        assert raw("/assets/%2e%2e%2fapp.py") == 404
        assert raw("/evaluations/0/truth?sequence=../../..&first_frame=0") == 422
        assert raw("/api/stores/9/columns") == 404
        assert raw("/api/stores/0/rows/9999") == 404
        assert raw("/api/stores/0/rows?start=-1") == 422
        assert raw(f"/api/stores/0/rows?start={'9' * 5000}") == 422
        assert raw("/api/stores/0/what-if?what_if=motion_scale:1e999") == 422
        assert raw("/evaluations/0/truth?sequence=%00&first_frame=0") == 422
        deep = requests.post(
            f"{base}/api/stores/0/flags",
            data="[" * 100_000,
            headers={"Content-Type": "application/json"},
            timeout=TIMEOUT,
        )
        assert "flag: not JSON" in deep.json()["error"]
        form = requests.post(f"{base}/api/stores/0/flags", data={"row": "0"}, timeout=TIMEOUT)
        assert form.status_code == 422
        wrong = {"generation": "x", "row": 0, "mark": "odd"}
        answer = requests.post(f"{base}/api/stores/0/flags", json=wrong, timeout=TIMEOUT)
        assert "flag: mark" in answer.json()["error"]
        assert requests.delete(f"{base}/api/stores/0/rows", timeout=TIMEOUT).status_code == 405


def test_a_store_that_is_replaced_is_opened_anew(
    copied: Callable[[], Path], source: Source
) -> None:
    patches = copied()
    with serving(patches) as server:
        store = f"{server.address}/api/stores/0"
        before = requests.get(f"{store}/columns", timeout=TIMEOUT).json()["generation"]
        fewer = SMALL_PATCHES.model_copy(update={"tries": 5})
        sample([source], patches, fewer, workers=0)
        old = f"{server.address}/tiles/0/{before}/0/128"
        gone = requests.get(old, timeout=TIMEOUT)
        assert gone.status_code == 410
        assert "was replaced" in gone.json()["error"]
        rows = requests.get(f"{store}/rows", timeout=TIMEOUT).json()
        assert rows["total"] == 6 * 5
        assert rows["generation"] != before
        shutil.rmtree(patches)
        answer = requests.get(f"{store}/rows", timeout=TIMEOUT)
        assert answer.status_code == 422
        assert "not there, or unfinished" in answer.json()["error"]


def test_an_evaluation_that_is_replaced_is_opened_anew(
    evaluations: list[Path], tmp_path: Path
) -> None:
    served = Path(shutil.copytree(evaluations[0], tmp_path / "served"))
    with serving(served) as server:
        site = f"{server.address}/api/site"
        assert requests.get(site, timeout=TIMEOUT).json()["evaluations"][0]["model"] == "mean"
        shutil.rmtree(served)
        answer = requests.get(site, timeout=TIMEOUT)
        assert "not there, or unfinished" in answer.json()["error"]
        shutil.copytree(evaluations[1], served)
        assert requests.get(site, timeout=TIMEOUT).json()["evaluations"][0]["model"] == "first"


def test_a_damaged_shard_is_said_by_its_tile(copied: Callable[[], Path]) -> None:
    patches = copied()
    shard = shard_file(patches / STORE, 0)
    content = bytearray(shard.read_bytes())
    content[100] ^= 255
    shard.write_bytes(content)
    with serving(patches) as server:
        rows = requests.get(f"{server.address}/api/stores/0/rows?reason=taken", timeout=TIMEOUT)
        told = rows.json()
        tiles = [
            requests.get(
                f"{server.address}/tiles/0/{told['generation']}/{row['row']}/128", timeout=TIMEOUT
            )
            for row in told["rows"]
        ]
    damaged = [tile for tile in tiles if not tile.ok]
    assert len(damaged) == 1
    assert "is damaged" in damaged[0].json()["error"]


def test_what_cannot_be_served_is_one_line(
    copied: Callable[[], Path], dataset: Path, tmp_path: Path
) -> None:
    patches = copied()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MidframeError, match=f"port {port} is in use; choose another"):
            browse([patches], port, open_browser=False)
    with pytest.raises(MidframeError, match="cannot be used"):
        browse([patches], 99_999, open_browser=False)
    with pytest.raises(MidframeError, match="give a patch directory or an evaluation"):
        browse([dataset], 0, open_browser=False)
    (tmp_path / "unfinished").mkdir()
    with pytest.raises(MidframeError, match="is it still being written"):
        browse([tmp_path / "unfinished"], 0, open_browser=False)
    manifest = json.loads((patches / "manifest.json").read_text())
    (patches / "manifest.json").write_text(json.dumps(manifest | {"format_version": 9}))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "browse", str(patches), "--port", "0", "--no-open"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "patches format version 9" in done.stderr
    assert len(done.stderr.splitlines()) == 1
