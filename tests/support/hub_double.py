"""A Hub on loopback: repositories with commits, branches, tags and LFS, and faults on demand.

It implements the routes that `huggingface_hub` 2.4 and `datasets` 5.2 use with Xet off, with the
responses of the Hub: a `parent_commit` that is not the head is a 412, a second tag of one name a
409, a private or missing repository a 404, a token without write access a 403, a request to a
renamed repository a 307 to its new name.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LFS_SUFFIXES = (".parquet", ".png", ".safetensors", ".bin")
LICENSES = {"apache-2.0", "cc-by-4.0", "cc-by-nc-4.0", "llama2", "mit", "other"}  # some of them
WRITES = {"create", "lfs-batch", "lfs-put", "commit", "tag", "branch"}  # routes
REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
PATH = r"(?P<path>.+)"
KIND = r"(?P<kind>datasets|models|spaces)"
ROUTES = [
    ("whoami", "GET", r"/api/whoami-v2"),
    ("validate-yaml", "POST", r"/api/validate-yaml"),
    ("create", "POST", r"/api/repos/create"),
    ("preupload", "POST", rf"/api/{KIND}/{REPO}/preupload/(?P<rev>[^/]+)"),
    ("lfs-batch", "POST", rf"/(?:(?P<kind>datasets|spaces)/)?{REPO}\.git/info/lfs/objects/batch"),
    ("lfs-put", "PUT", r"/lfs/(?P<oid>\w{64})"),
    ("lfs-verify", "POST", r"/lfs/(?P<oid>\w{64})/verify"),
    ("commit", "POST", rf"/api/{KIND}/{REPO}/commit/(?P<rev>[^/]+)"),
    ("commits", "GET", rf"/api/{KIND}/{REPO}/commits/(?P<rev>[^/]+)"),
    ("branch", "POST", rf"/api/{KIND}/{REPO}/branch/(?P<rev>[^/]+)"),
    ("tag", "POST", rf"/api/{KIND}/{REPO}/tag/(?P<rev>[^/]+)"),
    ("refs", "GET", rf"/api/{KIND}/{REPO}/refs"),
    ("tree", "GET", rf"/api/{KIND}/{REPO}/tree/(?P<rev>[^/]+)(?:/(?P<path>.+))?"),
    ("paths-info", "POST", rf"/api/{KIND}/{REPO}/paths-info/(?P<rev>[^/]+)"),
    ("info", "GET", rf"/api/{KIND}/{REPO}/revision/(?P<rev>[^/]+)"),
    ("info", "GET", rf"/api/{KIND}/{REPO}"),
    ("resolve", "GET", rf"/(?:(?P<kind>datasets|spaces)/)?{REPO}/resolve/(?P<rev>[^/]+)/{PATH}"),
]  # fmt: skip


@dataclass(frozen=True)
class Commit:
    """One commit: `tree` maps a path to the SHA-256 of its content."""

    sha: str
    parent: str | None
    tree: dict[str, str]
    title: str
    message: str
    author: str
    date: str


@dataclass
class Repository:
    """Branch heads, tags and all commits; `heads` is what `main` was, one after the other."""

    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    heads: list[str] = field(default_factory=list)


class Refusal(Exception):
    """A response with an error: status and message."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class HubDouble:
    """A server that runs until it is closed.

    A test makes requests fail with `fail` or `block`, or sets `fault(route, index)`, where `index`
    counts all requests from 1. It returns None or a fault: a status ("500", "429", "403: reason"),
    "drop" (the connection closes before the request is processed), "lost" (it closes after),
    "before" or "after" (the request blocks at that moment: `blocked` is set, and the request waits
    for `unblock`).
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.users = {
            "hf_alice": "alice", "hf_bob": "bob", "hf_reader": "reader", "hf_guest": "guest",
        }  # fmt: skip
        self.orgs: dict[str, list[dict[str, str]]] = {}  # of a user: name and roleInOrg
        self.renamed: dict[tuple[str, str], str] = {}
        self.fault: Callable[[str, int], str | None]
        self.log: list[str] = []
        self.reset()
        self._lock = threading.Lock()
        double = self

        class Handler(_Handler):
            hub = double

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.unblock.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> HubDouble:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reset(self) -> None:
        """Delete everything for the next test; the address stays."""
        self.repositories.clear()
        self.renamed.clear()
        self.orgs.clear()
        self.blobs.clear()
        self.log.clear()
        self.recover()
        self.blocked, self.unblock = threading.Event(), threading.Event()

    # -- for tests ------------------------------------------------------------------

    def fail(self, route: str, fault: str) -> None:
        """Make all requests to a route fail."""
        self.fault = lambda name, index: fault if name == route else None

    def block(self, route: str, moment: str = "before", *, skip: int = 0) -> None:
        """Make one request to a route block, after `skip` others."""
        requests = itertools.count()
        self.fault = lambda name, index: (
            moment if name == route and next(requests) == skip else None
        )

    def recover(self) -> None:
        """Make no request fail from now on."""
        self.fault = lambda route, index: None

    def environment(self, home: Path) -> dict[str, str]:
        """Return the environment of a process of alice that uses this Hub and caches in `home`."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        return kept | {
            "HF_ENDPOINT": self.url, "HF_TOKEN": "hf_alice", "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }  # fmt: skip

    def repository(self, name: str, kind: str = "datasets") -> Repository:
        return self.repositories[kind, name]

    def read(self, name: str, revision: str, path: str, kind: str = "datasets") -> bytes:
        """Return a file at a tag, branch or commit."""
        return self.blobs[self._commit(self.repository(name, kind), revision).tree[path]]

    def edit(self, name: str, changes: dict[str, bytes | None], *, author: str, kind="datasets"):
        """Commit changes as a user does in the browser; None deletes a file."""
        repository = self.repository(name, kind)
        tree = dict(repository.commits[repository.branches["main"]].tree)
        for path, content in changes.items():
            tree.pop(path, None)
            if content is not None:
                tree[path] = self._keep(content)
        return self._append(repository, "main", tree, "Edit by hand", "", author)

    def delete(self, name: str, kind: str = "datasets") -> None:
        """Delete a repository."""
        del self.repositories[kind, name]

    def rename(self, name: str, new: str, kind: str = "datasets") -> None:
        """Rename a repository; requests to the old name are redirected."""
        self.repositories[kind, new] = self.repositories.pop((kind, name))
        self.renamed[kind, name] = new

    # -- the state -------------------------------------------------------------------------

    def _keep(self, content: bytes) -> str:
        oid = hashlib.sha256(content).hexdigest()
        self.blobs[oid] = content
        return oid

    def _append(self, repository, branch, tree, title, message, author) -> Commit:
        parent = repository.branches.get(branch)
        sha = secrets.token_hex(20)
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        commit = Commit(sha, parent, tree, title, message, author, date)
        repository.commits[sha] = commit
        repository.branches[branch] = sha
        if branch == "main":
            repository.heads.append(sha)
        return commit

    def _commit(self, repository: Repository, revision: str) -> Commit:
        sha = repository.branches.get(revision) or repository.tags.get(revision) or revision
        if sha not in repository.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repository.commits[sha]

    def _open(self, kind: str, name: str, user: str | None, write: bool = False) -> Repository:
        repository = self.repositories.get((kind, name))
        owner = name.partition("/")[0]
        if repository is None or (repository.private and user not in (owner, "alice")):
            raise Refusal(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and user is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        if write and not self._may_write(user, owner):
            raise Refusal(403, "You don't have the rights to push to this repository")
        return repository

    def _may_write(self, user: str | None, namespace: str) -> bool:
        """Users are members of each other's namespaces, but for the reader and the guest."""
        if user == "guest":
            return namespace in (user, *(org["name"] for org in self.orgs.get(user, [])))
        return user != "reader"

    # -- the routes, by name ---------------------------------------------------------------

    def do_whoami(self, call: Call) -> Any:
        if call.user is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        role = "read" if call.user == "reader" else "write"
        token = {"role": role, "displayName": "test"}
        return {"type": "user", "name": call.user, "orgs": self.orgs.get(call.user, []),
                "auth": {"type": "access_token", "accessToken": token}}  # fmt: skip

    def do_validate_yaml(self, call: Call) -> Any:
        text = call.json()["content"]
        found = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
        errors = []
        try:
            metadata = yaml.safe_load(found[1]) if found else {}
        except yaml.YAMLError as error:
            metadata, errors = {}, [{"message": str(error)}]
        for key, kind in (("configs", list), ("tags", list), ("size_categories", list)):
            if key in metadata and not isinstance(metadata[key], kind):
                errors.append({"message": f'"{key}" must be a {kind.__name__}'})
        if metadata.get("license", "other") not in LICENSES:
            errors.append({"message": f'"license" must be one of {", ".join(sorted(LICENSES))}'})
        if errors:
            raise Refusal(400, json.dumps({"errors": errors, "warnings": []}))
        return {"errors": [], "warnings": []}

    def do_create(self, call: Call) -> Any:
        body = call.json()
        if call.user is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        namespace = body.get("organization") or call.user
        if not self._may_write(call.user, namespace):
            raise Refusal(403, "You don't have the rights to create a repository here")
        kind = body.get("type", "model") + "s"
        name = f"{body.get('organization') or call.user}/{body['name']}"
        key = (kind, name)
        url = f"{self.url}/{'' if kind == 'models' else kind + '/'}{name}"
        if key in self.repositories:
            raise Refusal(409, json.dumps({"error": "You already created this repo", "url": url}))
        repository = self.repositories[key] = Repository(
            body.get("visibility") == "private" or bool(body.get("private"))
        )
        tree = {".gitattributes": self._keep(b"*.parquet filter=lfs\n")}
        self._append(repository, "main", tree, "initial commit", "", call.user)
        return {"url": url, "id": name, "name": name}

    def do_preupload(self, call: Call) -> Any:
        repository = self._open(call.kind, call.repo, call.user, write=True)
        tree = self._commit(repository, call.rev).tree
        files = []
        for file in call.json()["files"]:
            path = file["path"]
            lfs = path.endswith(LFS_SUFFIXES)
            answer = {"path": path, "uploadMode": "lfs" if lfs else "regular",
                      "shouldIgnore": False}  # fmt: skip
            if path in tree:
                answer["oid"] = tree[path] if lfs else _git_oid(self.blobs[tree[path]])
            files.append(answer)
        return {"files": files}

    def do_lfs_batch(self, call: Call) -> Any:
        self._open(call.kind, call.repo, call.user, write=True)
        objects = []
        for entry in call.json()["objects"]:
            oid, answer = entry["oid"], dict(entry)
            if oid not in self.blobs:
                link = f"{self.url}/lfs/{oid}"
                answer["actions"] = {"upload": {"href": link}, "verify": {"href": f"{link}/verify"}}
            objects.append(answer)
        return {"transfer": "basic", "objects": objects}

    def do_lfs_put(self, call: Call) -> Any:
        if self._keep(call.body) != call.path["oid"]:
            raise Refusal(400, "the content does not have this hash")
        return {}

    def do_lfs_verify(self, call: Call) -> Any:
        if call.path["oid"] not in self.blobs:
            raise Refusal(404, "no such object")
        return {}

    def do_commit(self, call: Call) -> Any:
        repository = self._open(call.kind, call.repo, call.user, write=True)
        lines = [json.loads(line) for line in call.body.splitlines()]
        header = lines[0]["value"]
        head = self._commit(repository, call.rev)
        parent = header.get("parentCommit")
        if parent and parent != head.sha:
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        tree = dict(head.tree)
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                tree[value["path"]] = self._keep(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.blobs:
                    raise Refusal(400, f"LFS object {value['oid']} does not exist")
                tree[value["path"]] = value["oid"]
            elif line["key"] == "deletedFile":
                if tree.pop(value["path"], None) is None:
                    raise Refusal(400, f"{value['path']} does not exist")
            else:
                raise Refusal(400, f"unsupported operation {line['key']}")
        made = self._append(
            repository, call.rev, tree, header["summary"], header["description"], call.user
        )
        return {"commitUrl": f"{self.url}/{call.kind}/{call.repo}/commit/{made.sha}",
                "commitOid": made.sha, "hookOutput": "", "success": True}  # fmt: skip

    def do_commits(self, call: Call) -> Any:
        repository = self._open(call.kind, call.repo, call.user)
        sha: str | None = self._commit(repository, call.rev).sha
        commits = []
        while sha:
            commit = repository.commits[sha]
            commits.append({"id": sha, "title": commit.title, "message": commit.message,
                         "date": commit.date, "authors": [{"user": commit.author}]})  # fmt: skip
            sha = commit.parent
        return commits

    def do_branch(self, call: Call) -> Any:
        repository = self._open(call.kind, call.repo, call.user, write=True)
        if call.rev in repository.branches:
            raise Refusal(409, "Reference already exists")
        repository.branches[call.rev] = repository.branches["main"]
        return {}

    def do_tag(self, call: Call) -> Any:
        repository = self._open(call.kind, call.repo, call.user, write=True)
        tag = call.json()["tag"]
        if tag in repository.tags:
            raise Refusal(409, f"Tag {tag} already exists")
        repository.tags[tag] = self._commit(repository, call.rev).sha
        return {}

    def do_refs(self, call: Call) -> Any:
        repository = self._open(call.kind, call.repo, call.user)

        def list_refs(kind: str, refs: dict[str, str]) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha}
                for name, sha in refs.items()
            ]

        return {"branches": list_refs("heads", repository.branches), "converts": [],
                "tags": list_refs("tags", repository.tags)}  # fmt: skip

    def do_tree(self, call: Call) -> Any:
        repository = self._open(call.kind, call.repo, call.user)
        tree = self._commit(repository, call.rev).tree
        folder = unquote(call.path.get("path") or "").strip("/")
        inside = f"{folder}/" if folder else ""
        deep = "recursive" in call.query and call.query["recursive"][0].lower() != "false"
        found, folders = [], set()
        for path, oid in sorted(tree.items()):
            if not path.startswith(inside):
                continue
            rest = path[len(inside) :]
            parents = [inside + p for p in _parents(rest)]
            folders.update(parents if deep else parents[:1])
            if deep or "/" not in rest:
                found.append(self._entry(path, oid))
        if folder and not found and not folders:
            raise Refusal(404, f"{folder} does not exist", "EntryNotFound")
        directories = [
            {"type": "directory", "oid": "0" * 40, "size": 0, "path": p} for p in folders
        ]
        return sorted(directories + found, key=lambda entry: entry["path"])

    def do_paths_info(self, call: Call) -> Any:
        repository = self._open(call.kind, call.repo, call.user)
        tree = self._commit(repository, call.rev).tree
        body = call.json() if call.body.startswith(b"{") else parse_qs(call.body.decode())
        paths = body["paths"] if isinstance(body["paths"], list) else [body["paths"]]
        return [self._entry(path, tree[path]) for path in paths if path in tree]

    def _entry(self, path: str, oid: str) -> dict[str, Any]:
        content = self.blobs[oid]
        entry = {"type": "file", "oid": _git_oid(content), "size": len(content), "path": path}
        if path.endswith(LFS_SUFFIXES):
            entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
        return entry

    def do_info(self, call: Call) -> Any:
        repository = self._open(call.kind, call.repo, call.user)
        commit = self._commit(repository, call.rev or "main")
        return {"id": call.repo, "_id": "0" * 24, "sha": commit.sha, "private": repository.private,
                "lastModified": commit.date, "tags": [], "downloads": 0, "likes": 0,
                "disabled": False, "gated": False, "author": call.repo.partition("/")[0],
                "siblings": [{"rfilename": path} for path in sorted(commit.tree)]}  # fmt: skip

    def do_resolve(self, call: Call) -> tuple[bytes, dict[str, str]]:
        repository = self._open(call.kind, call.repo, call.user)
        commit = self._commit(repository, call.rev)
        path = unquote(call.path["path"])
        if path not in commit.tree:
            raise Refusal(404, f"{path} does not exist on {call.rev}", "EntryNotFound")
        content = self.blobs[commit.tree[path]]
        etag = commit.tree[path] if path.endswith(LFS_SUFFIXES) else _git_oid(content)
        return content, {
            "ETag": f'"{etag}"', "X-Linked-ETag": f'"{etag}"', "X-Repo-Commit": commit.sha,
            "X-Linked-Size": str(len(content)),
        }  # fmt: skip


@dataclass
class Call:
    """One request, taken apart."""

    user: str | None
    path: dict[str, str | None]
    query: dict[str, list[str]]
    body: bytes

    @property
    def kind(self) -> str:
        return self.path.get("kind") or "models"

    @property
    def repo(self) -> str:
        return self.path["repo"] or ""

    @property
    def rev(self) -> str:
        return unquote(self.path.get("rev") or "")

    def json(self) -> Any:
        return json.loads(self.body)


class _Handler(BaseHTTPRequestHandler):
    hub: HubDouble
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet: two of them wait 40 ms for an acknowledgment

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        hub, address = self.hub, urlsplit(self.path)
        method = "GET" if self.command == "HEAD" else self.command
        matches = (
            (name, re.fullmatch(pattern, address.path))
            for name, verb, pattern in ROUTES
            if verb == method
        )
        route, found = next(((n, match) for n, match in matches if match), ("", None))
        body = self._body()
        if found is None:
            self._answer(404, {"error": f"unsupported request {self.command} {address.path}"})
            return
        if self.command == "HEAD":
            route = "head"
        with hub._lock:
            hub.log.append(route)
            fault = hub.fault(route, len(hub.log))
        if fault == "before":
            self._block()
        if fault == "drop":
            self.close_connection = True
            self.connection.close()
            return
        if fault and fault[:3].isdigit():
            reason = fault[3:].removeprefix(": ") or "a fault on demand"
            headers = {"Retry-After": "0", "X-Error-Message": reason}
            self._answer(int(fault[:3]), {"error": reason}, headers)
            return
        values = found.groupdict()
        moved = hub.renamed.get((values.get("kind") or "models", values.get("repo") or ""))
        if moved:
            self._answer(307, {}, {"Location": self.path.replace(values["repo"], moved, 1)})
            return
        call = Call(self._user(), found.groupdict(), parse_qs(address.query), body)
        with hub._lock:
            try:
                name = "resolve" if route == "head" else route.replace("-", "_")
                result = getattr(hub, f"do_{name}")(call)
                status, headers = 200, {}
                if isinstance(result, tuple):
                    result, headers = result
            except Refusal as refusal:
                text = str(refusal)
                result = json.loads(text) if text.startswith("{") else {"error": text}
                status, headers = refusal.status, {}
                if refusal.code:
                    headers["X-Error-Code"] = refusal.code
                headers["X-Error-Message"] = text[:200]
        if fault == "after":
            self._block()
        if fault == "lost":
            self.close_connection = True
            self.connection.close()
            return
        self._answer(status, result, headers)

    def _block(self) -> None:
        self.hub.blocked.set()
        self.hub.unblock.wait(30)

    def _user(self) -> str | None:
        word = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        return self.hub.users.get(word)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, result: Any, headers: dict[str, str] | None = None) -> None:
        content = result if isinstance(result, bytes) else json.dumps(result).encode()
        start, _, end = (self.headers.get("Range") or "").removeprefix("bytes=").partition("-")
        headers = dict(headers or {})
        if isinstance(result, bytes) and start and status == 200:
            last = min(int(end) if end else len(content) - 1, len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{last}/{len(content)}"
            content, status = content[int(start) : last + 1], 206
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            kind = "application/octet-stream" if isinstance(result, bytes) else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client was killed


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]
