"""`browse` shows directories of a bucket, and keeps the flags of their windows there, too."""

import json
from pathlib import Path

import requests

from pipeline.locations import Url
from pipeline.mirrors import mirror
from pipeline.selection.triplets import Source
from tests.object_store import Bucket, publish
from tests.pipeline.browse.conftest import serving

TIMEOUT = 20


def test_a_bucket_is_shown_and_a_flag_is_written_beside_the_store(
    bucket: Bucket, patches: Path, source: Source
) -> None:
    directories = {"patches": patches, "frames": source.frames, "motion": source.motion}
    for name, directory in directories.items():
        publish(bucket, directory, f"data/{name}")
    urls = [f"{bucket.url}/data/{name}" for name in directories]
    with serving(*urls) as server:  # type: ignore[arg-type]
        base = server.address
        site = requests.get(f"{base}/api/site", timeout=TIMEOUT).json()
        assert site["stores"][0]["path"] == urls[0]
        columns = requests.get(f"{base}/api/stores/0/columns", timeout=TIMEOUT).json()
        now = columns["generation"]
        assert columns["flags_file"] == f"{urls[0]}.flags.json"
        for path in ("tiles/0/{}/0/128", "tiles/0/{}/40/64", "views/0/{}/0/flow"):
            answer = requests.get(f"{base}/{path.format(now)}", timeout=TIMEOUT)
            assert answer.headers["Content-Type"] == "image/jpeg"
        flag = {"generation": now, "row": 3, "mark": "bad", "note": "torn"}
        answer = requests.post(f"{base}/api/stores/0/flags", json=flag, timeout=TIMEOUT)
        assert answer.ok, answer.text
        server.interrupt()
    (written,) = json.loads(bucket.objects()["data/patches.flags.json"])["flags"]
    assert (written["mark"], written["note"]) == ("bad", "torn")

    with serving(urls[0]) as server:  # type: ignore[arg-type]
        rows = requests.get(f"{server.address}/api/stores/0/rows?flag=bad", timeout=TIMEOUT).json()
        assert [row["row"] for row in rows["rows"]] == [3]
    assert mirror(Url(bucket.name, "data/patches.flags.json")).is_file()
