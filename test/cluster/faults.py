#!/usr/bin/env python3
"""test/cluster/faults.py PKI LISTEN-PORT [UPSTREAM-PORT]: an API server that behaves badly, on order: a proxy in front of a good one, on 127.0.0.1.

Speaks HTTP/1.1 over TLS with the API server's own certificate (PKI/apiserver.*), and to it as the administrator. What is to go wrong is told by
PUT /faults with a list of rules; GET /faults says how often each was applied and what came by since the last PUT. A rule:
  {"match": REGEX of "VERB target" (VERB is a method, or WATCH), "do": FAULT, "times": N (0: always), "chance": 0..1, "arg": …}
faults:
  status   answers `arg` itself, 429 and 503 with Retry-After: 1
  slow     waits `arg` seconds first
  lost     does what was asked and never answers: the connection is closed
  truncate answers half of the body
  gone     WATCH: 200, and the event that says 410 Expired
  cut      WATCH: closes in the middle of the first event that comes
  deaf     WATCH: stays open, and passes nothing on
  down     closes the connection before it reads anything more"""
import http.client
import json
import random
import re
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EXPIRED = json.dumps({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410,
                                                  "message": "too old resource version"}}).encode() + b"\n"


class Faults:
    def __init__(self):
        self.lock, self.rules, self.seen = threading.Lock(), [], []

    def set(self, rules):
        with self.lock:
            self.rules, self.seen = [dict(r, applied=0) for r in rules], []

    def get(self):
        with self.lock:
            return {"rules": self.rules, "seen": list(self.seen)}

    def of(self, what):
        """The fault for this request, or None."""
        with self.lock:
            self.seen.append(what)
            for r in self.rules:
                if not re.search(r["match"], what) or (r.get("times") and r["applied"] >= r["times"]) or random.random() >= r.get("chance", 1):
                    continue
                r["applied"] += 1
                return r
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults, upstream, tls = Faults(), 6443, None

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for k, v in headers:
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self):
        self.close_connection = True
        self.wfile.flush()

    def status(self, code):
        head = [("Content-Type", "application/json")] + ([("Retry-After", "1")] if code in (429, 503) else [])
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "a fault that was ordered"}
        if code == 410:
            body["reason"] = "Expired"
        self.answer(code, json.dumps(body).encode(), head)

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/faults":
            if self.command == "PUT":
                self.faults.set(json.loads(body))
            return self.answer(200, json.dumps(self.faults.get()).encode())
        watch = "watch=true" in self.path
        rule = self.faults.of("%s %s" % ("WATCH" if watch else self.command, self.path)) or {"do": ""}
        do, arg = rule["do"], rule.get("arg")
        if do == "down":
            return self.hang_up()
        if do == "status":
            return self.status(arg)
        if do == "slow":
            time.sleep(arg)
        if do == "gone":
            return self.answer(200, EXPIRED)
        return self.forward(body, watch, do)

    def forward(self, body, watch, do):
        c = http.client.HTTPSConnection("127.0.0.1", self.upstream, context=self.tls, timeout=700)
        keep = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "content-length", "authorization")}
        c.request(self.command, self.path, body or None, keep)
        r = c.getresponse()
        if do == "lost":
            r.read()
            return self.hang_up()
        if watch and r.status == 200:
            return self.stream(r, do)
        text = r.read()
        head = [(k, v) for k, v in r.getheaders() if k.lower() in ("content-type", "retry-after")]
        if do == "truncate":
            self.send_response(r.status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text[:len(text) // 2])
            return self.hang_up()
        return self.answer(r.status, text, head)

    def stream(self, r, do):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        while True:
            piece = r.read1(65536)
            if not piece:
                self.wfile.write(b"0\r\n\r\n")
                return self.wfile.flush()
            if do == "deaf":
                continue
            if do == "cut":
                piece = piece[:len(piece) // 2]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            if do == "cut":
                return self.hang_up()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def finish_request(self, request, client_address):
        try:
            with self.context.wrap_socket(request, server_side=True) as tls:
                Handler(tls, client_address, self)
        except (OSError, http.client.HTTPException, ValueError) as e:
            print(e, file=sys.stderr, flush=True) # either side has gone

    def handle_error(self, *_):
        pass


def main():
    pki, port = sys.argv[1], int(sys.argv[2])
    Handler.upstream = int(sys.argv[3]) if len(sys.argv) > 3 else 6443
    Handler.tls = ssl.create_default_context(cafile=pki + "/ca.crt")
    Handler.tls.load_cert_chain(pki + "/admin.crt", pki + "/admin.key")
    server = Server(("127.0.0.1", port), Handler)
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(pki + "/apiserver.crt", pki + "/apiserver.key")
    server.serve_forever()


if __name__ == "__main__":
    main()
