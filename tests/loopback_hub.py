"""A hub on loopback, in a process of its own: serves a folder as one model, and fails as it is told.

    python loopback_hub.py FOLDER ORDERS

Prints its address. ORDERS is a JSON file, read at each request:
  status      answer everything with this status
  cuts        of file bodies: close the connection after so many bytes, one number a request until none is left
  stalls      as cuts, but the connection stays open and nothing more comes
  corrupt     flip a byte of files with this name
  sizes       say that files of these names are so large
  names       serve these names, of the same bytes each, instead of the folder's files
  hold        seconds to wait before each piece of a file
"""

import hashlib
import json
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

FOLDER, ORDERS = Path(sys.argv[1]), Path(sys.argv[2])
MODEL = "someone/small"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = ("main", "v1")  # two names of the same
LFS_BYTES = 10_000
PIECE_BYTES = 1 << 14
lock = Lock()


def files() -> dict[str, bytes]:
    names = orders().get("names")
    if names:
        return dict.fromkeys(names, b"not yours")
    return {str(f.relative_to(FOLDER)): f.read_bytes() for f in sorted(FOLDER.rglob("*")) if f.is_file()}


def orders() -> dict[str, Any]:
    with lock:
        found: dict[str, Any] = json.loads(ORDERS.read_text())
        return found


def next_of(kind: str) -> int | None:
    with lock:
        found = json.loads(ORDERS.read_text())
        place = found[kind].pop(0) if found.get(kind) else None
        ORDERS.write_text(json.dumps(found))
        return place


def git_sha1(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def entry(name: str, body: bytes) -> dict[str, Any]:
    size = orders().get("sizes", {}).get(name, len(body))
    found: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": git_sha1(body)}
    if len(body) >= LFS_BYTES:
        found["lfs"] = {"oid": hashlib.sha256(body).hexdigest(), "size": size, "pointerSize": 134}
    return found


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if status := orders().get("status"):
            self.send(status, b"{}", {})
        elif path in (f"/api/models/{MODEL}", *(f"/api/models/{MODEL}/revision/{name}" for name in REVISIONS)):
            siblings = [{"rfilename": name} for name in files()]
            facts = {"id": MODEL, "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
            self.send(200, json.dumps(facts).encode(), {})
        elif path == f"/api/models/{MODEL}/tree/{COMMIT}" or path == f"/api/models/{MODEL}/tree/main":
            self.send(200, json.dumps([entry(*item) for item in files().items()]).encode(), {})
        elif found := re.fullmatch(rf"/{MODEL}/resolve/(?:main|{COMMIT})/(.+)", path):
            self.send_file(found[1], body=body)
        elif path.startswith("/api/models/") and MODEL in path:
            self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        else:
            self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def send_file(self, name: str, *, body: bool) -> None:
        content = files().get(name)
        if content is None:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
        whole = content
        if orders().get("corrupt") == name:
            content = content[:-1] + bytes([content[-1] ^ 1])
        facts = entry(name, whole)
        etag = facts["lfs"]["oid"] if "lfs" in facts else facts["oid"]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if "lfs" in facts:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(facts["size"])}
        start, status = 0, 200
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start, status = int(asked[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        large = body and len(content) >= LFS_BYTES
        stall = next_of("stalls") if large else None
        cut = next_of("cuts") if large and stall is None else stall
        self.send(status, content[start:], headers, cut=cut, stall=stall is not None, body=body)
        return None

    def send(self, status: int, content: bytes, headers: dict[str, str], *, cut: int | None = None,
             stall: bool = False, body: bool = True) -> None:  # fmt: skip
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if not body or self.command == "HEAD":
            return
        hold = orders().get("hold", 0)
        for start in range(0, len(content), PIECE_BYTES):
            piece = content[start : start + PIECE_BYTES]
            if cut is not None and start + len(piece) > cut:
                self.wfile.write(piece[: max(0, cut - start)])
                self.wfile.flush()
                if stall:
                    time.sleep(60)
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(piece)
            time.sleep(hold)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads = True
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
