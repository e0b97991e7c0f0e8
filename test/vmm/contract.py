"""The common part of the two contract servers: a published API document as a judge, a strict HTTP/1.1 server on a unix
socket, a book of what was done wrong, and faults on demand.

A contract server pretends to be a VMM. It accepts only what the VMM's published document allows, and what the document
does not say but the VMM is known to demand (tables of corrections, each with its source). Whatever else it is sent is
answered as the VMM would and written into the file `violations` of its folder; a test that finds a line there fails, even
if the driver coped with the answer. Written from the documents, without a look at the drivers.

The folder (VIREO_CONTRACT_DIR, or the one above the folder of the link by which the server was started) holds:
  requests    one JSON line for each request, in order, as it was received
  violations  one JSON line for each thing that was wrong
  faults      written by the test: a JSON list of faults, read anew for each request (see Faults)
  config      the machine as the VMM would report it, at each start
  log         what the server thinks happened
With a datagram socket `book` in the folder the lines go there instead, as "<file> <line>": a confined process writes nowhere.
"""
import array
import json
import os
import re
import selectors
import signal
import socket
import time

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(os.environ.get("VIREO_DATA") or os.path.join(HERE, "..", "..", "..", "shared", "data"), "vmm-api")


def load_document(name):
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with open(os.path.join(DATA, name), encoding="utf-8") as f:
        return yaml.load(f, loader)


class Problem(Exception):
    """The request is wrong: recorded, and answered with this status and text."""

    def __init__(self, status, text, *chain):
        super().__init__(text)
        self.status, self.text, self.chain = status, text, chain


class Refused(Exception):
    """The VMM cannot do it, but asking was no mistake (a file is not there, a fault was ordered)."""

    def __init__(self, status, text, *chain):
        super().__init__(text)
        self.status, self.text, self.chain = status, text, chain


class Later:
    """The answer comes by itself: call .finish(body) or .fail(problem)."""

    def __init__(self):
        self.done = None

    def finish(self, body=None):
        self.done(body, None)

    def fail(self, problem):
        self.done(None, problem)


# ---- the document ----

# Numbers are unsigned in both VMMs (serde refuses a negative one), although the documents say "int64" and the like.
WIDTH = {"uint8": 8, "int8": 8, "uint16": 16, "int16": 16, "uint32": 32, "int32": 32, "uint64": 64, "int64": 64, None: 64}


class Document:
    def __init__(self, name, corrections):
        """corrections: list of (function on the document, source)."""
        self.raw = load_document(name)
        for change, _source in corrections:
            change(self.raw)
        self.routes = []
        for template, methods in self.raw["paths"].items():
            pattern = re.compile("^" + re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]*)", re.escape(template)) + "$")
            for method, what in methods.items():
                self.routes.append((method.upper(), pattern, template, self._body(what)))
        self.routes.sort(key=lambda r: "{" in r[2])  # /balloon/statistics before any /{id}

    def _body(self, what):
        """(schema, required) of the request's body."""
        if "requestBody" in what:
            return what["requestBody"]["content"]["application/json"]["schema"], what["requestBody"].get("required", False)
        for p in what.get("parameters", []):
            if p["in"] == "body":
                return p["schema"], p.get("required", False)
        return None, False

    def find(self, method, path):
        """(template, parameters, (schema, required)); None, and whether another method would have fit."""
        other = False
        for m, pattern, template, body in self.routes:
            hit = pattern.match(path)
            if hit and m == method:
                return template, hit.groupdict(), body
            other = other or bool(hit)
        return None, other, None

    def resolve(self, schema):
        while "$ref" in schema:
            node = self.raw
            for part in schema["$ref"].lstrip("#/").split("/"):
                node = node[part]
            schema = node
        return schema

    def schema(self, name):
        return (self.raw.get("definitions") or self.raw["components"]["schemas"])[name]

    def check(self, value, schema, at=""):
        """All that is wrong with a value, as "field: what"."""
        schema = self.resolve(schema)
        kind = schema.get("type", "object" if "properties" in schema else None)
        is_number = isinstance(value, int) and not isinstance(value, bool)
        ok = {"object": isinstance(value, dict), "array": isinstance(value, list), "string": isinstance(value, str),
              "boolean": isinstance(value, bool), "integer": is_number}.get(kind, True)
        if not ok:
            return ["%s: %s wanted, got %s" % (at or "the body", kind, json.dumps(value)[:60])]
        if "enum" in schema and value not in schema["enum"]:
            return ["%s: %s is none of %s" % (at, json.dumps(value), ", ".join(map(str, schema["enum"])))]
        wrong = []
        if kind == "integer":
            low, high = schema.get("minimum", 0), schema.get("maximum", (1 << WIDTH[schema.get("format")]) - 1)
            if not low <= value <= high:
                wrong.append("%s: %d is not within %d…%d" % (at, value, low, high))
        elif kind == "string":
            if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
                wrong.append("%s: %r does not match %s" % (at, value, schema["pattern"]))
            if "\0" in value:
                wrong.append("%s: a NUL in a string" % at)
        elif kind == "array":
            for i, item in enumerate(value):
                wrong += self.check(item, schema.get("items", {}), "%s[%d]" % (at, i))
        elif kind == "object":
            known, more = schema.get("properties", {}), schema.get("additionalProperties")
            for name, item in value.items():
                inner = (at + "." if at else "") + name
                if name in known:
                    wrong += self.check(item, known[name], inner)
                elif isinstance(more, dict):
                    wrong += self.check(item, more, inner)
                elif not more:
                    wrong.append("%s: unknown field" % inner)
            for name in schema.get("required", []):
                if name not in value:
                    wrong.append("%s%s: missing" % (at + "." if at else "", name))
        return wrong

    def with_defaults(self, value, schema):
        """The value as the VMM shows it: with the defaults that the document names."""
        schema = self.resolve(schema)
        if isinstance(value, list):
            return [self.with_defaults(v, schema.get("items", {})) for v in value]
        if not isinstance(value, dict):
            return value
        out = {k: self.with_defaults(v, schema.get("properties", {}).get(k, {})) for k, v in value.items()}
        for name, inner in schema.get("properties", {}).items():
            inner = self.resolve(inner)
            if name not in out and "default" in inner:
                out[name] = inner["default"]
        return out


# ---- one thread's events ----

class Loop:
    def __init__(self):
        self.selector, self.timers, self.over, self.serial = selectors.DefaultSelector(), [], False, 0

    def watch(self, sock, fn):
        self.selector.register(sock, selectors.EVENT_READ, fn)

    def forget(self, sock):
        try:
            self.selector.unregister(sock)
        except (KeyError, ValueError):
            pass

    def later(self, seconds, fn):
        self.serial += 1
        self.timers.append((time.monotonic() + seconds, self.serial, fn))
        self.timers.sort()

    def run(self):
        while not self.over:
            wait = max(0, self.timers[0][0] - time.monotonic()) if self.timers else None
            for key, _ in self.selector.select(wait):
                if key.fileobj.fileno() >= 0:
                    key.data()
            while self.timers and self.timers[0][0] <= time.monotonic() and not self.over:
                self.timers.pop(0)[2]()


# ---- the book ----

def find_folder(argv0):
    """Where the test waits; None when there is none."""
    folder = os.environ.get("VIREO_CONTRACT_DIR") or os.path.dirname(os.path.dirname(os.path.abspath(argv0)))
    return folder if os.environ.get("VIREO_CONTRACT_DIR") or os.path.exists(os.path.join(folder, "book")) else None


class Book:
    def __init__(self, folder, vmm):
        self.folder, self.vmm, self.violations, self.n, self.socket = folder, vmm, [], 0, None
        if folder and os.path.exists(os.path.join(folder, "book")):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self.socket.connect(os.path.join(folder, "book"))

    def _add(self, name, what):
        if self.socket is not None:
            self.socket.send(("%s %s\n" % (name, json.dumps(what)))[:100000].encode())
        elif self.folder:
            with open(os.path.join(self.folder, name), "a", encoding="utf-8") as f:
                f.write(json.dumps(what) + "\n")

    def request(self, r):
        self.n += 1
        self._add("requests", {"vmm": self.vmm, "pid": os.getpid(), "method": r.method, "path": r.path, "fds": len(r.fds),
                               "body": r.body.decode("utf-8", "replace")})

    def violation(self, where, text):
        self.violations.append("%s: %s" % (where, text))
        self._add("violations", {"vmm": self.vmm, "request": where, "wrong": text})

    def config(self, what):
        self._add("config", {"vmm": self.vmm, "config": what})

    def log(self, text):
        self._add("log", "%.3f %s[%d] %s" % (time.monotonic(), self.vmm, os.getpid(), text))


class Faults:
    """[{"method": "PUT", "path": "/api/v1/vm.boot", "do": "error", "status": 500, "body": …, "nth": 1, "times": 1}, …]
    path "*" is any request, "start" the start of the process. do:
      error          answers with status and body, and does nothing
      delay          does it and answers after `seconds`
      cut-before     closes the connection and does nothing;  cut-inside: does it, sends half an answer, closes
      cut-after      does it, closes without an answer;       silence: does it and never answers
      garbage, huge, headers, long, short   does it; no HTTP, a body or a header without end, a wrong Content-Length
      die            ends at once: `code`, or `signal`;       die-after: does it, answers, ends
      start only: exit (code, text on stderr), no-socket, late-socket (seconds)"""

    def __init__(self, folder):
        self.folder, self.seen, self.stamp = folder, {}, None

    def find(self, method, path):
        name = os.path.join(self.folder or "/nonexistent", "faults")
        try:
            with open(name, encoding="utf-8") as f:
                text = f.read()
        except OSError:
            return None
        if text != self.stamp:
            self.stamp, self.seen = text, {}
        hit = None
        for i, f in enumerate(json.loads(text or "[]")):
            if f["path"] != path and (f["path"] != "*" or path == "start") or f.get("method", method) != method:
                continue
            self.seen[i] = n = self.seen.get(i, 0) + 1
            first = f.get("nth", 1)
            if hit is None and first <= n < first + f.get("times", 1 << 30):
                hit = f
        return hit


# ---- HTTP ----

class Request:
    def __init__(self, method, path, headers, body, fds):
        self.method, self.path, self.headers, self.body, self.fds = method, path, headers, body, fds


class Parser:
    """As strict as micro-http, which both VMMs use, and as RFC 9112 where that is laxer. feed() gives whole requests."""
    LINE = 1024  # micro-http reads a request's head through a buffer of this size

    def __init__(self, limit):
        self.data, self.fds, self.limit = b"", [], limit

    def feed(self, data):
        self.data += data
        out = []
        while True:
            r = self._one()
            if r is None:
                return out
            out.append(r)

    def _one(self):
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            if max((len(x) for x in self.data.split(b"\r\n")), default=0) > self.LINE:
                raise Problem(400, "a line of the head is longer than %d bytes" % self.LINE)
            if b"\n" in self.data.replace(b"\r\n", b""):
                raise Problem(400, "a line that does not end with CR LF")
            return None
        lines = self.data[:end].split(b"\r\n")
        for x in lines:
            if len(x) > self.LINE or b"\n" in x or b"\r" in x or b"\0" in x:
                raise Problem(400, "bad line in the head: %r" % x[:80])
        first = re.fullmatch(rb"([A-Z]+) (/[\x21-\x7e]*) HTTP/1\.1", lines[0])
        if not first:
            raise Problem(400, "bad request line %r" % lines[0][:80])
        if b"?" in first[2] or b"#" in first[2] or b"//" in first[2]:
            raise Problem(400, "bad target %r" % first[2])
        headers = {}
        for x in lines[1:]:
            h = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", x)
            if not h:
                raise Problem(400, "bad header %r" % x[:80])
            name = h[1].decode().lower()
            if name in headers:
                raise Problem(400, "header %s twice" % name)
            headers[name] = h[2].decode("latin-1")
        size = self._size(headers)
        if len(self.data) < end + 4 + size:
            return None
        body = self.data[end + 4:end + 4 + size]
        self.data = self.data[end + 4 + size:]
        fds, self.fds = self.fds, []
        return Request(first[1].decode(), first[2].decode(), headers, body, fds)

    def _size(self, headers):
        if "host" not in headers:
            raise Problem(400, "HTTP/1.1 without Host")
        if "transfer-encoding" in headers:
            raise Problem(400, "transfer-encoding is not understood")
        if headers.get("accept", "*/*") not in ("*/*", "application/json", "text/plain"):
            raise Problem(400, "accept: %s" % headers["accept"])
        length = headers.get("content-length", "0")
        if not re.fullmatch(r"[0-9]{1,10}", length):
            raise Problem(400, "content-length: %s" % length)
        if int(length) > self.limit:
            raise Problem(413, "a body of %s bytes (limit %d)" % (length, self.limit))
        if int(length) > 0 and headers.get("content-type", "application/json") != "application/json":
            raise Problem(400, "content-type: %s" % headers["content-type"])
        return int(length)


class Connection:
    def __init__(self, api, sock):
        self.api, self.sock, self.parser, self.queue, self.busy = api, sock, Parser(api.vmm.BODY_LIMIT), [], False
        api.loop.watch(sock, self.readable)

    def close(self):
        self.api.loop.forget(self.sock)
        self.sock.close()
        self.api.connections.discard(self)
        for r in self.queue:
            close_all(r.fds)
        self.queue = []
        close_all(self.parser.fds)

    def readable(self):
        try:
            data, extra, _flags, _ = self.sock.recvmsg(65536, socket.CMSG_SPACE(253 * 4), socket.MSG_CMSG_CLOEXEC)
        except OSError:
            data, extra = b"", []
        for level, kind, payload in extra:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(payload[:len(payload) - len(payload) % 4])
                self.parser.fds += fds
        if not data:
            if self.parser.data:
                self.api.book.violation("connection", "closed inside a request: %r" % self.parser.data[:80])
            self.close()
            return
        try:
            self.queue += self.parser.feed(data)
        except Problem as p:
            self.api.book.violation("HTTP", p.text)
            self.send(p.status, self.api.vmm.error_body(p))
            self.close()
            return
        self.api.pump()

    def send(self, status, body, length=None):
        """Status line with an empty reason and these headers: so does micro-http."""
        data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        head = "HTTP/1.1 %d \r\nServer: %s\r\nConnection: keep-alive\r\n" % (status, self.api.vmm.SERVER)
        if status != 204:
            head += "Content-Type: application/json\r\nContent-Length: %d\r\n" % (len(data) if length is None else length)
        self.raw(head.encode() + b"\r\n" + data)

    def raw(self, data):
        try:
            self.sock.setblocking(True)
            self.sock.settimeout(30)
            self.sock.sendall(data)
        except OSError:
            pass

    def broken(self, how, status, body):
        """Faults that concern the answer."""
        text = json.dumps(body).encode() if body is not None else b'["half of'
        if how == "cut-inside":
            self.raw(b"HTTP/1.1 %d \r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (max(status, 200), len(text) + 10)
                     + text[:len(text) // 2])
        elif how == "garbage":
            self.raw(b"\x16\x03\x01\x00\xff not HTTP at all \xff\xfe\r\n\r\n" * 4)
        elif how == "huge":
            self.raw(b"HTTP/1.1 200 \r\nContent-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n")
            for _ in range(64):
                self.raw(b'["' + b"x" * (1 << 20))
        elif how == "headers":
            self.raw(b"HTTP/1.1 200 \r\n" + b"X-Again: and again\r\n" * 200000)
        elif how == "long":
            self.send(200, body if body is not None else [], 1 << 16)
            return
        elif how == "short":
            self.send(200, {"a": "a body that is longer than its head says"}, 3)
            return
        elif how == "silence":
            return
        self.close()


def close_all(fds):
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass


class Api:
    """Serves requests one after another, as both VMMs do: while one is under way the others wait."""
    MAX_CONNECTIONS = 10  # micro-http's

    def __init__(self, vmm, loop, listener):
        self.vmm, self.loop, self.listener, self.book = vmm, loop, listener, vmm.book
        self.connections, self.busy = set(), False
        loop.watch(listener, self.accept)

    def accept(self):
        sock, _ = self.listener.accept()
        if len(self.connections) >= self.MAX_CONNECTIONS:
            self.book.violation("connection", "more than %d connections at once" % self.MAX_CONNECTIONS)
            sock.close()
            return
        self.connections.add(Connection(self, sock))

    def pump(self):
        for c in list(self.connections):
            while c.queue and not self.busy and not self.loop.over:
                self.one(c, c.queue.pop(0))

    def one(self, c, r):
        fault = self.vmm.faults.find(r.method, r.path) or {}
        how = fault.get("do", "")
        self.book.request(r)
        if how == "error":
            self.vmm.judge_only(r)
            close_all(r.fds)
            c.send(fault.get("status", 500), fault.get("body"))
            return
        if how == "cut-before":
            close_all(r.fds)
            c.close()
            return
        if how == "die":
            die(fault)
        result = self.vmm.serve(r)
        if isinstance(result, Later):
            self.busy = self.vmm.BLOCKS
            result.done = lambda body, problem: self.finish(c, r, fault, self.vmm.result(r, body, problem))
        else:
            self.finish(c, r, fault, result)

    def finish(self, c, r, fault, result):
        status, body = result
        how = fault.get("do", "")
        self.busy = False
        if how == "delay":
            self.busy = True

            def go():
                self.busy = False
                c.send(status, body)
                self.pump()
            self.loop.later(fault.get("seconds", 1), go)
        elif how == "cut-after":
            c.close()
        elif how in ("cut-inside", "garbage", "huge", "headers", "long", "short", "silence"):
            c.broken(how, status, body)
        else:
            c.send(status, body)
            if how == "die-after":
                die(fault)
        self.loop.later(0, self.pump)
        if self.vmm.after:
            self.vmm.after.pop()()


def die(fault):
    if fault.get("signal"):
        signal.signal(fault["signal"], signal.SIG_DFL) if fault["signal"] != signal.SIGKILL else None
        os.kill(os.getpid(), fault["signal"])
        time.sleep(1)
    os._exit(fault.get("code", 1))


class Vmm:
    """What both servers share. A subclass has DOC, NAME, SERVER, BODY_LIMIT, BLOCKS, prefix, error_body(), act()."""
    PREFIX = ""
    BLOCKS = True
    NOT_FOUND = 404

    def __init__(self, folder, loop):
        self.loop, self.book, self.faults, self.after = loop, Book(folder, self.NAME), Faults(folder), []

    def judge(self, r):
        """(template, parameters, value of the body); raises Problem."""
        if not r.path.startswith(self.PREFIX):
            raise Problem(self.NOT_FOUND, self.unknown(r))
        template, params, body = self.DOC.find(r.method, r.path[len(self.PREFIX):])
        if template is None:
            raise Problem(400 if params else self.NOT_FOUND, self.unknown(r))
        schema, required = body
        if schema is None:
            if r.body:
                raise Problem(400, "%s %s takes no body" % (r.method, template))
            return template, params, None
        if not r.body:
            if required:
                raise Problem(400, self.empty(r))
            return template, params, None
        try:
            value = json.loads(r.body, object_pairs_hook=no_doubles)
        except ValueError as e:
            raise Problem(400, self.bad_json(str(e))) from e
        wrong = self.DOC.check(value, schema)
        if wrong:
            raise Problem(400, self.bad_json("; ".join(wrong)))
        return template, params, value

    def judge_only(self, r):
        """For a request whose answer is a fault: it still has to be right."""
        try:
            self.judge(r)
        except Problem as p:
            self.book.violation("%s %s" % (r.method, r.path), p.text)

    def serve(self, r):
        """(status, body), or Later."""
        try:
            template, params, value = self.judge(r)
            body = self.act(r, template, params, value)
            if isinstance(body, Later):
                return body
            return self.result(r, body, None)
        except (Problem, Refused) as p:
            return self.result(r, None, p)
        finally:
            close_all(r.fds)

    def result(self, r, body, problem):
        where = "%s %s" % (r.method, r.path)
        if problem is None:
            return (204, None) if body is None else (200, body)
        if isinstance(problem, Problem):
            self.book.violation(where, ": ".join((problem.text, *problem.chain)))
        self.book.log("%s: %d %s" % (where, problem.status, ": ".join((problem.text, *problem.chain))))
        return problem.status, self.error_body(problem)

    def unknown(self, r):
        return "no such path or method: %s %s" % (r.method, r.path)

    def empty(self, r):
        return "Empty %s request." % r.method

    def bad_json(self, text):
        return text


def no_doubles(pairs):
    out = {}
    for k, v in pairs:
        if k in out:
            raise ValueError("field %s twice" % k)
        out[k] = v
    return out
