#!/usr/bin/env python3
"""test/robust/kill_api - the API server, killed with SIGKILL again and again while clients write, read, list and watch over HTTP.

usage: kill_api.py TEST_APISERVER [KILLS]

Judged afterwards, over all lives of the server:
  - every acknowledged write is there: its revision is its own, in the order of real time, and the next state of its key builds on it;
  - a get or list never shows less than what was acknowledged before it was asked, nor what nobody wrote;
  - a watch shows each change behind its start once, in order, nothing else, and its bookmarks promise nothing that is missing.
A write without an answer may have happened; what others saw of it tells."""
import copy
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

KEYS, CLIENTS, PATH = 6, 6, "/api/v1/namespaces/default/configmaps"


class History:
    def __init__(self):
        self.lock = threading.Lock()
        self.acked = []      # (call, ret, revision, key, tag or None for a removal)
        self.calls = {}      # tag -> time of call
        self.seen = {}       # (revision, key) -> tag, from reads and watches
        self.reads = []      # (call, ret, key, revision or 0, tag)
        self.lists = []      # (call, ret, revision, {key: (revision, tag)})
        self.watches = []    # [(type, revision, key, tag)]
        self.unknown = 0
        self.wrong = []


class Client(threading.Thread):
    def __init__(self, h, port, n, stop):
        super().__init__(daemon=True)
        self.h, self.port, self.n, self.stop, self.rnd, self.count, self.c = h, port, n, stop, random.Random(n), 0, None

    def ask(self, method, path, body=None, kind="application/json"):
        """(call, ret, code, object); code 0 when nothing is known."""
        call = time.monotonic()
        try:
            if not self.c:
                self.c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            self.c.request(method, path, None if body is None else json.dumps(body), {"Content-Type": kind})
            r = self.c.getresponse()
            data = r.read()
            return call, time.monotonic(), r.status, json.loads(data)
        except (OSError, http.client.HTTPException, ValueError):
            if self.c:
                self.c.close()
            self.c = None
            time.sleep(0.02)
            return call, time.monotonic(), 0, None

    def write(self, key):
        self.count += 1
        tag = "%d-%d" % (self.n, self.count)
        meta = {"name": "k%d" % key}
        how = self.rnd.randrange(4)
        with self.h.lock:
            self.h.calls[tag] = time.monotonic()
        if how == 0:
            call, ret, code, o = self.ask("POST", PATH, {"metadata": meta, "data": {"tag": tag}})
        elif how == 1:
            call, ret, code, o = self.ask("PATCH", PATH + "/k%d" % key, {"data": {"tag": tag}}, "application/merge-patch+json")
        elif how == 2:
            call, ret, code, o = self.ask("GET", PATH + "/k%d" % key)
            if code != 200:
                return
            o["data"] = {"tag": tag}
            call, ret, code, o = self.ask("PUT", PATH + "/k%d" % key, o)
        else:
            call, ret, code, o = self.ask("DELETE", PATH + "/k%d" % key)
            with self.h.lock:
                self.h.unknown += code == 0
            return # the answer has no revision of its own; the watches show it
        with self.h.lock:
            if code in (200, 201):
                self.h.acked.append((call, ret, int(o["metadata"]["resourceVersion"]), key, tag))
            elif code not in (404, 409):
                self.h.unknown += 1

    def run(self):
        while not self.stop.is_set():
            what, key = self.rnd.randrange(10), self.rnd.randrange(KEYS)
            if what < 7:
                self.write(key)
            elif what < 9:
                call, ret, code, o = self.ask("GET", PATH + "/k%d" % key)
                if code == 200:
                    with self.h.lock:
                        self.h.reads.append((call, ret, key, int(o["metadata"]["resourceVersion"]), o["data"]["tag"]))
            else:
                self.list()

    def list(self):
        items, token, first, revision = {}, "", None, None
        while True:
            call, ret, code, o = self.ask("GET", PATH + "?limit=2" + ("&continue=" + token if token else ""))
            if code != 200:
                return
            first = first or call
            if revision not in (None, o["metadata"]["resourceVersion"]):
                self.h.wrong.append("pages of one list have the revisions %s and %s" % (revision, o["metadata"]["resourceVersion"]))
            revision = o["metadata"]["resourceVersion"]
            for i in o["items"]:
                if i["metadata"]["name"].startswith("k") and "tag" in i.get("data", {}):
                    items[int(i["metadata"]["name"][1:])] = (int(i["metadata"]["resourceVersion"]), i["data"]["tag"])
            token = o["metadata"].get("continue", "")
            if not token:
                break
        with self.h.lock:
            self.h.lists.append((first, ret, int(revision), items))


class Watcher(threading.Thread):
    """From the last revision seen on; after 410 from a list. Each unbroken stretch is one record."""
    def __init__(self, h, port, stop):
        super().__init__(daemon=True)
        self.h, self.port, self.stop = h, port, stop

    def run(self):
        last, record = None, None
        while not self.stop.is_set():
            try:
                c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=3)
                if last is None:
                    c.request("GET", PATH)
                    last = int(json.loads(c.getresponse().read())["metadata"]["resourceVersion"])
                    record = {"from": last, "events": []}
                    self.h.watches.append(record)
                c.request("GET", PATH + "?watch=1&allowWatchBookmarks=true&resourceVersion=%d" % last)
                for line in c.getresponse():
                    e = json.loads(line)
                    if e["type"] == "ERROR":
                        last = None
                        break
                    o = e["object"]
                    last = int(o["metadata"]["resourceVersion"])
                    if e["type"] == "BOOKMARK" or o["metadata"]["name"].startswith("k") and "tag" in o.get("data", {}):
                        record["events"].append((e["type"], last, o["metadata"].get("name", "k-1")[1:], o.get("data", {}).get("tag")))
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                time.sleep(0.02)


def judge(h):
    wrong = h.wrong
    log = {} # revision -> (key, tag; None: removed)

    def put(revision, key, tag):
        if log.setdefault(revision, (key, tag)) != (key, tag):
            wrong.append("revision %d is %s and %s" % (revision, log[revision], (key, tag)))

    for _, _, revision, key, tag in h.acked:
        put(revision, key, tag)
    for w in h.watches:
        for kind, revision, key, tag in w["events"]:
            if kind != "BOOKMARK":
                put(revision, int(key), None if kind == "DELETED" else tag)
    for _, _, key, revision, tag in h.reads:
        put(revision, key, tag)
    for _, _, _, items in h.lists:
        for key, (revision, tag) in items.items():
            put(revision, key, tag)
    for revision, (key, tag) in log.items():
        if tag is not None and tag not in h.calls:
            wrong.append("nobody wrote %s at %d" % (tag, revision))
    # real time: what was answered before another was called has the smaller revision
    newest = 0
    timeline = sorted([(ret, 0, rev) for _, ret, rev, _, _ in h.acked] + [(call, 1, rev) for call, _, rev, _, _ in h.acked])
    for _, is_call, revision in timeline:
        if is_call and revision <= newest:
            wrong.append("revision %d was called after %d was answered" % (revision, newest))
        elif not is_call:
            newest = max(newest, revision)
    by_key = {}
    for call, ret, revision, key, tag in h.acked:
        by_key.setdefault(key, []).append((ret, revision))
    order = sorted(log)
    for call, ret, key, revision, tag in h.reads:
        least = max([r for t, r in by_key.get(key, []) if t < call], default=0)
        if revision < least:
            wrong.append("a get of k%d shows %d, and %d had been acknowledged" % (key, revision, least))
    for call, ret, revision, items in h.lists:
        least = max([r for _, t, r, _, _ in h.acked if t < call], default=0)
        if revision < least:
            wrong.append("a list is at %d, and %d had been acknowledged" % (revision, least))
        state = {}
        for r in order:
            if r <= revision:
                state[log[r][0]] = (r, log[r][1])
        for key in range(KEYS):
            now = state.get(key, (0, None))
            if now[1] is not None and items.get(key, (0, 0))[0] < now[0] and not any(
                    r > now[0] and r <= revision and log[r] == (key, None) for r in order):
                # a removal without an answer that no watch saw, in the moment of a kill, explains an absent key only
                if key in items:
                    wrong.append("a list at %d has k%d at %s, and it was at %d" % (revision, key, items[key], now[0]))
    for w in h.watches:
        at, seen = w["from"], []
        for kind, revision, key, tag in w["events"]:
            if revision < at or (revision == at and kind != "BOOKMARK"):
                wrong.append("a watch goes from %d to %d" % (at, revision))
            at = revision
            if kind != "BOOKMARK":
                seen.append(revision)
        missing = [r for r in order if w["from"] < r <= at and r not in set(seen)]
        if missing:
            wrong.append("a watch from %d to %d misses %s" % (w["from"], at, missing[:5]))
    return wrong


def prove(h):
    """The judge is worth something only if it finds what is wrong: each of these is put into a history that is right."""
    def longest(c):
        return max(c.watches, key=lambda w: len(w["events"]))["events"]

    def dropped(c):
        del longest(c)[len(longest(c)) // 2]

    def doubled(c):
        events = longest(c)
        events.insert(9, events[9])

    def swapped(c):
        events = longest(c)
        events[5], events[6] = events[6], events[5]

    def invented(c):
        c.acked.append((0, 1e12, 10 ** 9, 0, "nobody"))

    def reused(c):
        call, ret, _, key, tag = c.acked[-1]
        c.acked[-1] = (call, ret, c.acked[-2][2], key, tag)

    def stale(c):
        call, ret, revision, key, _ = c.acked[-1]
        c.reads.append((ret + 1, ret + 2, key, min(r for _, _, r, k, _ in c.acked if k == key), "x"))

    missed = []
    for bug in (dropped, doubled, swapped, invented, reused, stale):
        c = copy.copy(h)
        c.wrong, c.acked, c.reads = [], list(h.acked), list(h.reads)
        c.watches = copy.deepcopy(h.watches)
        bug(c)
        if not judge(c):
            missed.append(bug.__name__)
    return missed


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def main():
    server, kills = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 30
    rnd, h, stop = random.Random(1), History(), threading.Event()
    plain, tls = free_port(), free_port()
    with tempfile.TemporaryDirectory() as d:
        threads = [Client(h, plain, n, stop) for n in range(CLIENTS)] + [Watcher(h, plain, stop) for _ in range(2)]
        for life in range(kills + 1):
            p = subprocess.Popen([server, d, str(plain), str(tls)], stderr=subprocess.DEVNULL)
            if life == 0:
                time.sleep(1)
                for t in threads:
                    t.start()
            # It dies in the midst of work, also where starting takes long.
            acked, patience = len(h.acked), time.monotonic() + 60
            while len(h.acked) == acked and time.monotonic() < patience:
                time.sleep(0.02)
            time.sleep(0.1 + rnd.random() * 0.5)
            if life == kills:
                time.sleep(1)
                stop.set()
                for t in threads[:CLIENTS]:
                    t.join(20)
                time.sleep(0.5)
            p.send_signal(signal.SIGKILL)
            p.wait()
    wrong = judge(h)
    events = sum(len(w["events"]) for w in h.watches)
    print("%d kills: %d writes acknowledged, %d unknown; %d gets, %d lists, %d events of %d watches judged; %d wrong" % (
        kills, len(h.acked), h.unknown, len(h.reads), len(h.lists), events, len(h.watches), len(wrong)))
    for line in wrong[:10]:
        print("  " + line)
    missed = prove(h) if not wrong and events > 50 else []
    print("seeded bugs not found: %s" % ", ".join(missed) if missed else "six bugs put into the history are each found")
    # a server that answered nothing would pass everything else
    return 1 if wrong or missed or len(h.acked) < 50 or events < 50 else 0


if __name__ == "__main__":
    sys.exit(main())
