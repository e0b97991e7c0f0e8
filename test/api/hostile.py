#!/usr/bin/env python3
"""Hostile clients against test-apiserver: each attack is a test with a bound on memory and a polite client that is served on.

hostile.py SERVER-BINARY [--soak] [--only REGEX] [--list]: prints ok, FAIL or skip for each attack and a total. Standard library
only: raw sockets and a small writer of HTTP/2 frames. While an attack runs, another process asks for one small object every 10 ms
and notes how long each answer took; the server's peak memory is read from /proc. The bounds are wide (a busy machine), but they
are bounds: a parser that is quadratic, a queue that grows, or a client that is shut out break them.
"""
import argparse, base64, json, os, re, resource, select, signal, socket, ssl, struct, subprocess, sys, tempfile, threading, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import apiserver

ATTACKS = []
SLOWNESS = float(os.environ.get('VIREO_TEST_SLOWNESS', '1'))  # factor on times, for instrumented builds
SLOW = SLOWNESS  # and for a machine that others use, measured before each attack


def crowd():
    """How much longer than its own time 0.1 s of work takes here: 1 where nobody else works."""
    begun, own = time.monotonic(), time.process_time()
    while time.process_time() - own < 0.1:
        pass
    return max(1, (time.monotonic() - begun) / 0.1)


def attack(memory_mb=64, worst_ms=1500, soak=False):
    """memory_mb: how far the peak may rise above what was held before; worst_ms: the slowest answer to the polite client."""
    def mark(f):
        ATTACKS.append((f.__name__.replace('_', ' '), f, memory_mb, worst_ms, soak))
        return f
    return mark


# ---- the server, and the polite client ----

class Server(apiserver.Process):
    def __init__(self, binary):
        self.dir = tempfile.TemporaryDirectory(prefix='vireo-hostile-')
        self.log = open(os.path.join(self.dir.name, 'log'), 'w+')
        super().__init__(binary, os.path.join(self.dir.name, 'data'), log=self.log)
        self.p, self.port, self.tls_port = self.process, self.plain, self.tls
        assert self.call('POST', '/api/v1/namespaces/default/configmaps',
                         {'metadata': {'name': 'polite'}, 'data': {'k': 'v'}})[0] in (201, 409)

    def output(self):
        self.log.flush()
        with open(self.log.name, errors='replace') as f:
            return f.read()[-4000:]

    def memory(self, which):
        with open('/proc/%d/status' % self.p.pid) as f:
            return int(re.search(r'^%s:\s+(\d+)' % which, f.read(), re.M).group(1)) / 1024

    def forget_peak(self):
        with open('/proc/%d/clear_refs' % self.p.pid, 'w') as f:
            f.write('5')

    def cpu(self):
        with open('/proc/%d/stat' % self.p.pid) as f:
            part = f.read().rpartition(') ')[2].split()
        return (int(part[11]) + int(part[12])) / os.sysconf('SC_CLK_TCK')

    def fds(self):
        return len(os.listdir('/proc/%d/fd' % self.p.pid))

    def connect(self, timeout=30, port=None):
        s = socket.create_connection(('127.0.0.1', port or self.port), timeout=timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def call(self, method, path, body=None, content_type='application/json', headers='', timeout=60):
        """(status, headers, body) of one request on a connection of its own."""
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        head = '%s %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s' % (method, path, headers)
        if body is not None:
            head += 'Content-Type: %s\r\nContent-Length: %d\r\n' % (content_type, len(body))
        with self.connect(timeout) as s:
            send(s, head.encode() + b'\r\n' + (body or b''))
            return answer(recv_all(s, timeout))

    def stop(self):
        self.p.send_signal(signal.SIGTERM)
        try:
            return self.p.wait(30)
        except subprocess.TimeoutExpired:
            self.p.kill()
            return -9


def send(s, data):
    """All of it, or as much as the server takes before it closes."""
    try:
        s.sendall(data)
        return True
    except OSError:
        return False


def recv_all(s, timeout=10, limit=64 << 20):
    s.settimeout(timeout)
    out = b''
    try:
        while len(out) < limit:
            piece = s.recv(65536)
            if not piece:
                break
            out += piece
    except OSError:
        pass
    return out


def answer(raw):
    head, _, body = raw.partition(b'\r\n\r\n')
    if not head.startswith(b'HTTP/1.1 '):
        return 0, '', raw
    return int(head[9:12]), head.decode('latin-1').lower(), body


class Polite:
    """A process that asks for one object again and again; what it saw comes back through a pipe."""

    def __init__(self, port):
        r, w = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(r)
            try:
                self.run(port, os.fdopen(w, 'w', buffering=1))
            finally:
                os._exit(0)
        os.close(w)
        self.seen = []
        self.reader = threading.Thread(target=self.read, args=(os.fdopen(r),), daemon=True)
        self.reader.start()

    @staticmethod
    def run(port, out):
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        request = b'GET /api/v1/namespaces/default/configmaps/polite HTTP/1.1\r\nHost: a\r\n\r\n'
        s = None
        while os.getppid() != 1:
            begun, ok = time.monotonic(), 0
            try:
                if not s:
                    s = socket.create_connection(('127.0.0.1', port), timeout=20)
                s.sendall(request)
                got = b''
                while b'\r\n\r\n' not in got or len(got.partition(b'\r\n\r\n')[2]) < int(
                        re.search(rb'content-length: (\d+)', got).group(1)):
                    piece = s.recv(65536)
                    if not piece:
                        raise OSError('closed')
                    got += piece
                ok = int(got.startswith(b'HTTP/1.1 200'))
            except OSError:
                s = None
            out.write('%f %f %d\n' % (begun, time.monotonic() - begun, ok))
            time.sleep(0.01)

    def read(self, f):
        for line in f:
            begun, took, ok = line.split()
            self.seen.append((float(begun), float(took), ok == '1'))

    def between(self, begin, end):
        return [x for x in list(self.seen) if x[0] + x[1] >= begin and x[0] <= end]

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)


# ---- HTTP/2, as far as an attacker needs it ----

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONT = range(10)
END_STREAM, END_HEADERS, ACK, PADDED, PRIO = 1, 4, 1, 8, 32
PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'


def frame(kind, flags, stream, payload=b''):
    return struct.pack('>I', len(payload))[1:] + struct.pack('>BBI', kind, flags, stream) + payload


def integer(value, bits, first=0):
    top = (1 << bits) - 1
    if value < top:
        return bytes([first | value])
    out, value = bytes([first | top]), value - top
    while value >= 128:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def text(b):
    return integer(len(b), 7) + b


def header(name, value, index=False):
    """A literal field, added to the peer's table or not."""
    return (b'\x40' if index else b'\x00') + text(name) + text(value)


def request_block(path=b'/version', method=b'GET', extra=()):
    fields = [(b':method', method), (b':scheme', b'http'), (b':path', path), (b':authority', b'a')] + list(extra)
    return b''.join(header(k, v) for k, v in fields)


class H2:
    def __init__(self, server, settings=b'', timeout=20):
        self.s = server.connect(timeout)
        self.next, self.buffer = 1, b''
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, ACK, 0))

    def send(self, data):
        return send(self.s, data)

    def get(self, path=b'/version', flags=END_STREAM | END_HEADERS, extra=(), method=b'GET'):
        stream, self.next = self.next, self.next + 2
        self.send(frame(HEADERS, flags, stream, request_block(path, method, extra)))
        return stream

    def read(self, seconds):
        """Frames until there are none for so long, or the end."""
        self.s.settimeout(seconds)
        while True:
            while len(self.buffer) >= 9:
                n = int.from_bytes(self.buffer[:3], 'big')
                if len(self.buffer) < 9 + n:
                    break
                kind, flags, stream = struct.unpack('>BBI', self.buffer[3:9])
                payload, self.buffer = self.buffer[9:9 + n], self.buffer[9 + n:]
                yield kind, flags, stream & 0x7fffffff, payload
            try:
                piece = self.s.recv(65536)
            except TimeoutError:
                return
            except OSError:
                piece = b''
            if not piece:
                yield None, 0, 0, b''  # closed
                return
            self.buffer += piece

    def fate(self, seconds=5):
        """'closed', 'goaway CODE', or 'open' when the server goes on."""
        last = 'open'
        for kind, _, _, payload in self.read(seconds):
            if kind is None:
                return last if last != 'open' else 'closed'
            if kind == GOAWAY:
                last = 'goaway %d' % struct.unpack('>I', payload[4:8])
        return last

    def reset_of(self, stream, seconds=5):
        """Error code of the stream's reset, 'closed' when the connection ends, 'answered', or None."""
        for kind, _, s, payload in self.read(seconds):
            if kind is None:
                return 'closed'
            if kind == GOAWAY:
                return 'closed'
            if s == stream and kind == RST:
                return struct.unpack('>I', payload)[0]
            if s == stream and kind == HEADERS:
                return 'answered %s' % self.status(payload)
        return None

    def cut_off(self, stream, seconds=5):
        """Whether the stream was reset or its connection ended, whatever was answered before."""
        return any(kind in (None, GOAWAY) or (s == stream and kind == RST) for kind, _, s, _ in self.read(seconds))

    @staticmethod
    def status(block):
        known = {0x88: 200, 0x89: 204, 0x8a: 206, 0x8b: 304, 0x8c: 400, 0x8d: 404, 0x8e: 500}
        if block and block[0] in known:
            return known[block[0]]
        m = re.search(rb'[\x08\x48]\x03(\d{3})', block[:16])
        return int(m.group(1)) if m else (huffman_status(block) or -1)


def huffman_status(block):
    """Digits in HPACK's Huffman code: 0, 1, 2 have five bits, the others six."""
    codes = {'00000': '0', '00001': '1', '00010': '2', '011001': '3', '011010': '4', '011011': '5', '011100': '6',
             '011101': '7', '011110': '8', '011111': '9'}
    if len(block) < 4 or block[0] not in (0x48, 0x08) or not block[1] & 0x80:
        return 0
    bits, out = ''.join('{:08b}'.format(b) for b in block[2:2 + (block[1] & 127)]), ''
    while len(out) < 3 and bits:
        for n in (5, 6):
            if bits[:n] in codes:
                out, bits = out + codes[bits[:n]], bits[n:]
                break
        else:
            return 0
    return int(out) if len(out) == 3 else 0


def expect(value, *wanted):
    if value not in wanted:
        raise AssertionError('want %s, got %s' % (' or '.join(map(repr, wanted)), value))


# ---- HTTP/1.1 ----

G = b'GET /version HTTP/1.1\r\nHost: a\r\n'
P = b'POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n'
SMUGGLED = b'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n'
MALFORMED = [
    ('length and chunked', P + b'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n' + SMUGGLED, 400),
    ('chunked and length', P + b'Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n' + SMUGGLED, 400),
    ('two lengths', P + b'Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}' + SMUGGLED, 400),
    ('two equal lengths', P + b'Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}' + SMUGGLED, 400),
    ('list of lengths', P + b'Content-Length: 2, 2\r\n\r\n{}' + SMUGGLED, 400),
    ('signed length', P + b'Content-Length: +2\r\n\r\n{}' + SMUGGLED, 400),
    ('negative length', P + b'Content-Length: -2\r\n\r\n{}' + SMUGGLED, 400),
    ('hexadecimal length', P + b'Content-Length: 0x2\r\n\r\n{}' + SMUGGLED, 400),
    ('length with space inside', P + b'Content-Length: 1 2\r\n\r\n{}' + SMUGGLED, 400),
    ('empty length', P + b'Content-Length:\r\n\r\n' + SMUGGLED, 400),
    ('length beyond 64 bits', P + b'Content-Length: 18446744073709551618\r\n\r\n{}' + SMUGGLED, 400, 413),
    ('length beyond the limit', P + b'Content-Length: 99999999999\r\n\r\n{}' + SMUGGLED, 413),
    ('space before colon', P + b'Content-Length : 2\r\n\r\n{}' + SMUGGLED, 400),
    ('space before the first field', b'GET /version HTTP/1.1\r\n Host: a\r\n\r\n', 400),
    ('tab before colon', P + b'Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n' + SMUGGLED, 400),
    ('obsolete folding', G + b'X-A: b\r\n c\r\n\r\n' + SMUGGLED, 400),
    ('folded length', P + b'Content-Length:\r\n 2\r\n\r\n{}' + SMUGGLED, 400),
    ('bare line feeds', b'GET /version HTTP/1.1\nHost: a\n\n', 400),
    ('one bare line feed', b'GET /version HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n', 400),
    ('bare carriage return', G + b'X-A: b\rContent-Length: 40\r\n\r\n', 400),
    ('NUL in a value', G + b'X-A: b\0c\r\n\r\n', 400),
    ('NUL in a name', G + b'X\0A: b\r\n\r\n', 400),
    ('control byte in a value', G + b'X-A: b\x01c\r\n\r\n', 400),
    ('field without a name', G + b': b\r\n\r\n', 400),
    ('field without a colon', G + b'Content-Length\r\n\r\n', 400),
    ('name that is no token', G + b'X(A): b\r\n\r\n', 400),
    ('chunked twice', P + b'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n' + SMUGGLED, 400),
    ('unknown coding', P + b'Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n' + SMUGGLED, 400, 501),
    ('chunked, identity', P + b'Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n' + SMUGGLED, 400, 501),
    ('gzip, chunked', P + b'Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n' + SMUGGLED, 400, 501),
    ('chunked with vertical tab', P + b'Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n' + SMUGGLED, 400, 501),
    ('chunked in HTTP/1.0', b'POST /version HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n' + SMUGGLED, 400),
    ('chunk size with sign', P + b'Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n' + SMUGGLED, 400),
    ('chunk size with prefix', P + b'Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n' + SMUGGLED, 400),
    ('chunk size with space', P + b'Transfer-Encoding: chunked\r\n\r\n2 \r\n{}\r\n0\r\n\r\n' + SMUGGLED, 400),
    ('chunk size that overflows', P + b'Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\n{}\r\n0\r\n\r\n' + SMUGGLED, 400),
    ('empty chunk size', P + b'Transfer-Encoding: chunked\r\n\r\n\r\n{}\r\n0\r\n\r\n' + SMUGGLED, 400),
    ('chunk ended by line feed', P + b'Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n' + SMUGGLED, 400),
    ('chunk longer than said', P + b'Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx\r\n0\r\n\r\n' + SMUGGLED, 400),
    ('folded trailer', P + b'Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n c\r\n\r\n' + SMUGGLED, 400),
    ('no Host', b'GET /version HTTP/1.1\r\n\r\n', 400),
    ('two Hosts', G + b'Host: b\r\n\r\n', 400),
    ('absolute form that is not the Host', b'GET http://other/version HTTP/1.1\r\nHost: a\r\n\r\n', 400),
    ('authority form', b'CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n', 400, 405, 501),
    ('no target', b'GET  HTTP/1.1\r\nHost: a\r\n\r\n', 400),
    ('space in target', b'GET /a b HTTP/1.1\r\nHost: a\r\n\r\n', 400),
    ('tab for space', b'GET\t/version\tHTTP/1.1\r\nHost: a\r\n\r\n', 400),
    ('HTTP/0.9', b'GET /version\r\n\r\n', 400),
    ('HTTP/2.0 in the line', b'GET /version HTTP/2.0\r\nHost: a\r\n\r\n', 400, 505),
    ('lower case version', b'GET /version http/1.1\r\nHost: a\r\n\r\n', 400),
    ('NUL in the target', b'GET /ver%00sion HTTP/1.1\r\nHost: a\r\n\r\n', 400),
    ('dot segments', b'GET /api/../version HTTP/1.1\r\nHost: a\r\n\r\n', 400),
    ('hidden dot segments', b'GET /api/%2e%2e/version HTTP/1.1\r\nHost: a\r\n\r\n', 400),
    ('broken escape', b'GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n', 400),
    ('bytes that are no HTTP', bytes(range(256)) * 4, 400),
    ('TLS hello to the plain port', b'\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03' + b'\0' * 60 + b'\r\n\r\n', 400),
    ('expectation', G + b'Expect: the-moon\r\n\r\n', 417),
    ('unknown method', b'BREW /version HTTP/1.1\r\nHost: a\r\n\r\n', 400, 405, 501),
]


@attack()
def malformed_requests_are_refused_and_nothing_is_smuggled(t):
    wrong = []
    for name, raw, *codes in MALFORMED:
        with t.connect(5) as s:
            send(s, raw)
            s.shutdown(socket.SHUT_WR)
            got = recv_all(s, 5)
        status = answer(got)[0]
        if status not in codes:
            wrong.append('%s: want %s, got %d' % (name, codes, status))
        elif got.count(b'HTTP/1.1 ') != 1 or b'smuggled' in got:
            wrong.append('%s: more than one answer' % name)
    assert not wrong, '; '.join(wrong)


@attack()
def header_floods(t):
    with t.connect() as s:  # one endless field
        send(s, G + b'X-A: ' + b'a' * (4 << 20))
        expect(answer(recv_all(s))[0], 431, 0)
    with t.connect() as s:  # endless fields
        ok = send(s, G)
        for i in range(4000):
            ok = ok and send(s, b'X-%d: b\r\n' % i * 20)
        expect(answer(recv_all(s))[0], 431, 0)
    with t.connect() as s:  # empty lines before a request line
        for _ in range(200):
            if not send(s, b'\r\n' * 5000):
                break
        s.shutdown(socket.SHUT_WR) if s.fileno() >= 0 else None
        recv_all(s, 2)
    status, _, _ = t.call('GET', '/version?' + 'a' * 70000)
    expect(status, 414, 431)
    status, _, _ = t.call('GET', '/version?' + '&'.join('a=b' for _ in range(15000)))
    expect(status, 200, 400, 431)


@attack()
def endless_bodies(t):
    with t.connect() as s:  # more than was said to be the limit
        send(s, P + b'Content-Length: 3000000000\r\n\r\n' + b'x' * 100000)
        expect(answer(recv_all(s))[0], 413)
    with t.connect() as s:  # chunked, without an end
        send(s, P + b'Transfer-Encoding: chunked\r\n\r\n')
        for _ in range(200):
            if not send(s, b'10000\r\n' + b' ' * 65536 + b'\r\n'):
                break
        expect(answer(recv_all(s))[0], 413, 0)
    with t.connect() as s:  # an extension without an end
        send(s, P + b'Transfer-Encoding: chunked\r\n\r\n2;a=')
        for _ in range(100):
            if not send(s, b'x' * 65536):
                break
        expect(answer(recv_all(s))[0], 400, 0)
    with t.connect() as s:  # a small extension on each chunk of one byte
        send(s, P + b'Transfer-Encoding: chunked\r\n\r\n')
        for _ in range(200):
            if not send(s, b'1;abcdefghijklmnop\r\n \r\n' * 1000):
                break
        expect(answer(recv_all(s))[0], 400, 0)
    with t.connect() as s:  # trailers without an end
        send(s, P + b'Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n')
        for i in range(4000):
            if not send(s, b'X-%d: abcdefghijklmnop\r\n' % i * 10):
                break
        expect(answer(recv_all(s))[0], 400, 0)


@attack(memory_mb=160)
def bodies_that_never_end_share_a_budget(t):
    """150 clients that each send almost 3 MiB and then wait: the sum is bounded, others are told to come later."""
    held, told = [], 0
    piece = b' ' * 2900000
    for _ in range(150):
        s = t.connect(5)
        send(s, P + b'Content-Length: 3000000\r\n\r\n')
        s.setblocking(False)
        held.append([s, 0])
    end = time.monotonic() + 8
    while time.monotonic() < end:
        busy = False
        for h in held:
            if h[1] < len(piece):
                try:
                    h[1] += h[0].send(piece[h[1]:h[1] + 262144])
                    busy = True
                except BlockingIOError:
                    busy = True
                except OSError:
                    h[1] = len(piece)
        if not busy:
            break
    expect(t.call('POST', CMS, {'metadata': {'name': 'between'}})[0], 201)  # a quick one gets its turn
    t.call('DELETE', CMS + '/between')
    for s, _ in held:
        told += b' 503 ' in recv_all_now(s)[:20]
        s.close()
    assert told > 0, 'none of 150 clients with 435 MB between them was refused'


def recv_all_now(s):
    s.setblocking(False)
    try:
        return s.recv(65536)
    except OSError:
        return b''


@attack(memory_mb=120)
def slow_heads_of_every_kind(t):
    """Slowloris over HTTP/1.1, HTTP/2 and TLS: a byte now and then must not keep a connection for longer than the header timeout."""
    slow = [t.connect() for _ in range(300)]
    for s in slow:
        send(s, b'GET /version HTTP/1.1\r\nHost: a\r\nX-')
    stalled = [t.connect(5, t.tls_port) for _ in range(200)]
    for i, s in enumerate(stalled):
        send(s, [b'', b'\x16', b'\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03', b'\x16\x03\x01\xff\xff' + b'\0' * 3000][i % 4])
    h2 = [H2(t) for _ in range(50)]
    for i, c in enumerate(h2):  # a header block without its end; half a HEADERS frame
        c.send(frame(HEADERS, END_STREAM, 1, request_block()) if i % 2 else
               frame(HEADERS, END_HEADERS, 1, request_block(CMS.encode(), b'POST'))[:20])
    prefaces = [t.connect() for _ in range(50)]
    for i, s in enumerate(prefaces):
        send(s, PREFACE if i % 2 else PREFACE[:10])
    context = ssl._create_unverified_context()
    for i in range(13):
        for s in slow:
            send(s, b'a')
        if i < 5:  # others are served meanwhile
            with socket.create_connection(('127.0.0.1', t.tls_port), 10) as raw, context.wrap_socket(raw) as s:
                send(s, G + b'Connection: close\r\n\r\n')
                expect(answer(recv_all(s))[0], 200)
        time.sleep(1)
    open_still = {'HTTP/1.1': slow, 'TLS': stalled, 'HTTP/2 heads': [c.s for c in h2[1::2]], 'prefaces': prefaces}
    left = {k: sum(not closed(s) for s in v) for k, v in open_still.items()}
    for s in slow + stalled + prefaces + [c.s for c in h2]:
        s.close()
    expect(left, dict.fromkeys(left, 0))


def closed(s):
    s.setblocking(False)
    try:
        while s.recv(65536):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


@attack(memory_mb=250)
def thousands_of_idle_connections(t):
    """More than the server takes: silent ones make room, and descriptors stay within the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = min(hard, 9000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, want), hard))
    n = min(6000, want - 200)
    held = []
    try:
        for _ in range(n):
            held.append(t.connect(5))
            if len(held) % 500 == 0:
                assert t.call('GET', '/version')[0] == 200
        assert t.fds() < 4400, 'the server holds %d descriptors' % t.fds()
        for _ in range(5):
            expect(t.call('GET', '/version')[0], 200)
    finally:
        for s in held:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@attack(memory_mb=200)
def half_closed_and_forgotten_sockets(t):
    held = []
    for i in range(300):
        s = t.connect()
        send(s, G + b'\r\n')
        if i % 3 == 0:
            s.shutdown(socket.SHUT_WR)
        elif i % 3 == 1:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            s.close()
            continue
        held.append(s)
    for s in held[::2]:
        expect(answer(recv_first(s))[0], 200)
    with t.connect() as s:  # a watch whose reader shut down its side ends
        send(s, b'GET /api/v1/namespaces/default/configmaps?watch=1 HTTP/1.1\r\nHost: a\r\n\r\n')
        s.shutdown(socket.SHUT_WR)
        assert recv_all(s, 5) is not None
    for s in held:
        s.close()


def recv_first(s, seconds=10):
    s.settimeout(seconds)
    try:
        return s.recv(65536)
    except OSError:
        return b''


@attack()
def pipelined_requests_are_answered_in_order_and_bounded(t):
    with t.connect() as s:
        send(s, (G + b'\r\n') * 300)
        s.shutdown(socket.SHUT_WR)
        expect(recv_all(s, 20).count(b'HTTP/1.1 200'), 300)
    with t.connect() as s:  # never read: the server must stop reading, not remember
        s.settimeout(2)
        try:
            for _ in range(400):
                s.sendall((b'GET /openapi/v2 HTTP/1.1\r\nHost: a\r\n\r\n') * 100)
        except OSError:
            pass


@attack()
def TLS_renegotiation_is_refused(t):
    """openssl's client asks for one with a line of R."""
    r = subprocess.run(['openssl', 's_client', '-tls1_2', '-connect', '127.0.0.1:%d' % t.tls_port, '-legacy_renegotiation'],
                       input=b'R\nGET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n', stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=20, check=False)
    assert b'RENEGOTIATING' in r.stdout, r.stdout[-300:]
    assert b'no renegotiation' in r.stdout or b'HTTP/1.1 200' not in r.stdout, r.stdout[-300:]


# ---- HTTP/2 ----

H2_BAD = [  # what stands in for the pseudo header fields of a good request
    ('upper case name', [(b':method', b'GET'), (b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a'), (b'X-A', b'b')]),
    ('connection', [(b':method', b'GET'), (b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a'), (b'connection', b'close')]),
    ('transfer-encoding', [(b':method', b'GET'), (b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a'), (b'transfer-encoding', b'chunked')]),
    ('upgrade', [(b':method', b'GET'), (b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a'), (b'upgrade', b'h2c')]),
    ('te', [(b':method', b'GET'), (b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a'), (b'te', b'gzip')]),
    ('line break in value', [(b':method', b'GET'), (b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a'), (b'x', b'a\r\nb: c')]),
    ('NUL in value', [(b':method', b'GET'), (b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a'), (b'x', b'a\0b')]),
    ('line break in name', [(b':method', b'GET'), (b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a'), (b'x\r\ny', b'a')]),
    ('line break in path', [(b':method', b'GET'), (b':scheme', b'http'), (b':path', b'/version HTTP/1.1\r\nx: y'), (b':authority', b'a')]),
    ('method that is no token', [(b':method', b'GET /a'), (b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a')]),
    ('two paths', [(b':method', b'GET'), (b':scheme', b'http'), (b':path', b'/version'), (b':path', b'/b'), (b':authority', b'a')]),
    ('two methods', [(b':method', b'GET'), (b':method', b'POST'), (b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a')]),
    ('no path', [(b':method', b'GET'), (b':scheme', b'http'), (b':authority', b'a')]),
    ('no method', [(b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a')]),
    ('no scheme', [(b':method', b'GET'), (b':path', b'/version'), (b':authority', b'a')]),
    ('empty path', [(b':method', b'GET'), (b':scheme', b'http'), (b':path', b''), (b':authority', b'a')]),
    ('pseudo field after others', [(b':method', b'GET'), (b':scheme', b'http'), (b'x', b'y'), (b':path', b'/version'), (b':authority', b'a')]),
    ('unknown pseudo field', [(b':method', b'GET'), (b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a'), (b':admin', b'a')]),
    ('response pseudo field', [(b':method', b'GET'), (b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a'), (b':status', b'200')]),
    ('host that is not the authority', [(b':method', b'GET'), (b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a'), (b'host', b'b')]),
    ('no authority and no host', [(b':method', b'GET'), (b':scheme', b'http'), (b':path', b'/version')]),
    ('two content lengths', [(b':method', b'POST'), (b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a'), (b'content-length', b'0'), (b'content-length', b'1')]),
    ('content length without content', [(b':method', b'POST'), (b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a'), (b'content-length', b'5')]),
    ('extended CONNECT', [(b':method', b'CONNECT'), (b':protocol', b'websocket'), (b':scheme', b'http'), (b':path', b'/version'), (b':authority', b'a')]),
]


@attack()
def h2_requests_that_are_malformed(t):
    wrong = []
    for name, fields in H2_BAD:
        c = H2(t)
        c.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, b''.join(header(k, v) for k, v in fields)))
        got = c.reset_of(1, 3)
        if got not in (1, 7, 'closed', 'answered 400', 'answered 501'):
            wrong.append('%s: %s' % (name, got))
        c.s.close()
    assert not wrong, '; '.join(wrong)


@attack()
def h2_frames_that_are_malformed(t):
    block = request_block()
    bad = [
        ('DATA on stream 0', frame(DATA, 0, 0, b'x')),
        ('HEADERS on stream 0', frame(HEADERS, END_HEADERS, 0, block)),
        ('HEADERS on an even stream', frame(HEADERS, END_HEADERS | END_STREAM, 2, block)),
        ('DATA on an idle stream', frame(DATA, 0, 5, b'x')),
        ('RST on an idle stream', frame(RST, 0, 5, b'\0\0\0\0')),
        ('WINDOW_UPDATE of 0', frame(WINDOW, 0, 0, b'\0\0\0\0')),
        ('WINDOW_UPDATE that overflows', frame(WINDOW, 0, 0, b'\x7f\xff\xff\xff') * 2),
        ('SETTINGS of odd size', frame(SETTINGS, 0, 0, b'\0\1\0')),
        ('SETTINGS with a bad window', frame(SETTINGS, 0, 0, b'\0\4\xff\xff\xff\xff')),
        ('SETTINGS with a bad frame size', frame(SETTINGS, 0, 0, b'\0\5\0\0\0\1')),
        ('PING of 7 bytes', frame(PING, 0, 0, b'1234567')),
        ('PUSH_PROMISE', frame(PUSH, END_HEADERS, 1, b'\0\0\0\2' + block)),
        ('CONTINUATION of nothing', frame(CONT, END_HEADERS, 1, block)),
        ('other frame inside a header block', frame(HEADERS, 0, 1, block) + frame(PING, 0, 0, b'12345678')),
        ('frame larger than allowed', frame(DATA, 0, 1, b'x' * 20000)),
        ('padding longer than the frame', frame(DATA, PADDED, 1, b'\xff')),
        ('HPACK index that does not exist', frame(HEADERS, END_HEADERS | END_STREAM, 1, b'\xff\xff\x7f')),
        ('HPACK integer that overflows', frame(HEADERS, END_HEADERS | END_STREAM, 1, b'\xff' + b'\xff' * 20)),
        ('HPACK table larger than allowed', frame(HEADERS, END_HEADERS | END_STREAM, 1, b'\x3f\xe1\xff\x7f' + block)),
        ('Huffman padding that is wrong', frame(HEADERS, END_HEADERS | END_STREAM, 1, b'\x00\x81\x00\x81\x00')),
        ('garbage', os.urandom(3000)),
    ]
    wrong = []
    for name, data in bad:
        c = H2(t)
        c.send(data)
        c.send(frame(PING, 0, 0, b'afterall'))
        fate = c.fate(3)
        if fate == 'open':
            wrong.append(name)
        c.s.close()
    assert not wrong, 'the connection goes on after: ' + '; '.join(wrong)


@attack()
def h2_rapid_reset(t):
    """CVE-2023-44487: requests that are cancelled at once, as many as the connection takes."""
    begun = t.cpu()
    for _ in range(3):
        c = H2(t)
        batch = b''
        for i in range(20000):
            batch += frame(HEADERS, END_STREAM | END_HEADERS, 2 * i + 1, request_block(b'/api/v1/configmaps')) + frame(RST, 0, 2 * i + 1, b'\0\0\0\x08')
        c.send(batch)
        assert c.fate(5) != 'open', '20,000 cancelled requests are not too many'
        c.s.close()
    assert t.cpu() - begun < 6 * SLOW, 'it cost %.1f s' % (t.cpu() - begun)


@attack()
def h2_made_you_reset(t):
    """CVE-2025-8671: the server is made to reset streams that it has begun to work on."""
    tricks = {'window of 0': lambda i: frame(WINDOW, 0, i, b'\0\0\0\0'),
              'window overflow': lambda i: frame(WINDOW, 0, i, b'\x7f\xff\xff\xff'),
              'self dependency': lambda i: frame(PRIORITY, 0, i, struct.pack('>IB', i, 1)),
              'priority of wrong size': lambda i: frame(PRIORITY, 0, i, b'\0\0\0'),
              'data after the end': lambda i: frame(DATA, 0, i, b'x'),
              'headers after the end': lambda i: frame(HEADERS, END_HEADERS | END_STREAM, i, request_block())}
    open_still = []
    for name, trick in tricks.items():
        c = H2(t)
        batch = b''
        for i in range(6000):
            batch += frame(HEADERS, END_STREAM | END_HEADERS, 2 * i + 1, request_block(b'/api/v1/configmaps?watch=1')) + trick(2 * i + 1)
        c.send(batch)
        if c.fate(3) == 'open':
            open_still.append(name)
        c.s.close()
    assert not open_still, 'the connection goes on after 6,000 of: ' + ', '.join(open_still)


@attack()
def h2_continuation_flood(t):
    """CVE-2024-27316: a header block without an end."""
    for flags, piece in ((0, header(b'x', b'y' * 1000) * 10), (0, b''), (END_STREAM, header(b'x', b''))):
        c = H2(t)
        c.send(frame(HEADERS, flags, 1, request_block()))
        data = frame(CONT, 0, 1, piece) * 100
        for _ in range(300):
            if not c.send(data):
                break
        assert c.fate(5) != 'open'
        c.s.close()


@attack()
def h2_floods_of_frames_that_do_nothing(t):
    floods = {'SETTINGS': frame(SETTINGS, 0, 0), 'PING': frame(PING, 0, 0, b'12345678'), 'PRIORITY': frame(PRIORITY, 0, 3, b'\0\0\0\0\1'),
              'empty DATA': frame(DATA, 0, 1, b''), 'padding': frame(DATA, PADDED, 1, b'\0'),
              'WINDOW_UPDATE': frame(WINDOW, 0, 1, b'\0\0\0\1'), 'RST of a closed stream': frame(RST, 0, 1, b'\0\0\0\x08'),
              'big SETTINGS': frame(SETTINGS, 0, 0, b'\0\3\0\0\0\1' * 2000)}
    open_still = []
    for name, f in floods.items():
        c = H2(t)
        c.get(b'/api/v1/namespaces/default/configmaps', END_HEADERS, method=b'POST')
        ok = True
        for _ in range(60):
            ok = ok and c.send(f * 1000 if len(f) < 100 else f * 20)
        if c.fate(2) == 'open':
            open_still.append(name)
        c.s.close()
    assert not open_still, 'the connection goes on after: ' + ', '.join(open_still)


@attack()
def h2_answers_that_are_never_read(t):
    """PINGs whose answers pile up, and responses behind a window of zero."""
    c = H2(t)
    c.s.settimeout(3)
    try:
        for _ in range(200):
            c.s.sendall(frame(PING, 0, 0, b'12345678') * 1000)
    except OSError:
        pass
    held = []
    for _ in range(40):
        z = H2(t, b'\0\4\0\0\0\0')  # initial window 0
        for _ in range(100):
            z.get(b'/openapi/v2')
        held.append(z)
    time.sleep(2)
    for z in held:
        z.s.close()
    c.s.close()


@attack()
def HPACK_bombs(t):
    begun = t.cpu()
    c = H2(t)  # one large field in the table, then named again and again
    c.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, request_block() + header(b'x', b'y' * 4000, index=True)))
    for i in range(1, 100):
        c.send(frame(HEADERS, END_STREAM | END_HEADERS, 2 * i + 1, request_block() + b'\xbe' * 16000))
    assert c.fate(3) != 'open'
    c.s.close()
    assert t.cpu() - begun < 1 * SLOW, 'it cost %.1f s' % (t.cpu() - begun)
    c = H2(t)  # a head over the limit, but not absurdly: refused by itself
    c.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, request_block() + header(b'x', b'y' * 4000, index=True) + b'\xbe' * 20))
    expect(c.reset_of(1), 'answered 431')
    expect(c.fate(1), 'open')
    c.s.close()


@attack()
def h2_streams_beyond_the_limit(t):
    c = H2(t)
    for _ in range(1000):
        c.get(b'/api/v1/configmaps?watch=1')
    assert c.fate(3) != 'open'  # it had acknowledged a limit of 250
    c.s.close()
    c = H2(t)  # ids run out at once: the last one is served, no more can follow
    c.next = 0x7fffffff
    s = c.get()
    got = c.reset_of(s, 3)
    expect(got, 'answered 200')
    c.s.close()


# ---- WebSocket ----

def upgraded(t):
    s = t.connect()
    send(s, b'GET /api/v1/namespaces/default/configmaps?watch=1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n'
            b'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ' + base64.b64encode(os.urandom(16)) + b'\r\n\r\n')
    head = recv_first(s)
    return s, head


def masked(opcode, payload, fin=True, rsv=0):
    n = len(payload)
    size = bytes([0x80 | n]) if n < 126 else b'\xfe' + struct.pack('>H', n) if n < 65536 else b'\xff' + struct.pack('>Q', n)
    return bytes([(0x80 if fin else 0) | rsv | opcode]) + size + b'\0\0\0\0' + payload


@attack()
def websocket_frames_that_are_hostile(t):
    s, head = upgraded(t)
    s.close()
    if b' 101 ' not in head[:20]:
        raise Skip('the server alone upgrades nothing (its console does; see src/http/websocket_test.c)')
    bad = {'unmasked': b'\x81\x02hi', 'large control frame': masked(9, b'x' * 126), 'fragmented control frame': masked(9, b'', fin=False),
           'reserved bit': masked(1, b'hi', rsv=0x40), 'unknown opcode': masked(3, b''), 'continuation of nothing': masked(0, b''),
           'length of 2^63': b'\x82\xff' + b'\xff' * 8 + b'\0\0\0\0', 'bad UTF-8': masked(1, b'\xff\xfe')}
    for name, data in bad.items():
        s, _ = upgraded(t)
        send(s, data)
        got = recv_all(s, 5)
        assert closed(s) or b'\x88' in got[:1], name
        s.close()


# ---- JSON, YAML, protobuf ----

CMS = '/api/v1/namespaces/default/configmaps'


def refused(t, what, *args, codes=(400, 413, 415, 422), took=5, **kw):
    begun = time.monotonic()
    status, _, body = t.call(*args, **kw)
    spent = time.monotonic() - begun
    if status not in codes:
        raise AssertionError('%s: want %s, got %d %s' % (what, codes, status, body[:200]))
    if spent > took * SLOW:
        raise AssertionError('%s took %.1f s' % (what, spent))
    if status >= 400 and codes != (0,):
        assert b'"Failure"' in body or status in (413,), '%s: no Status: %s' % (what, body[:100])


@attack(memory_mb=300)
def JSON_documents_that_are_hostile(t):
    deep = 10000
    refused(t, 'nested arrays', 'POST', CMS, '[' * deep + ']' * deep)
    refused(t, 'nested objects', 'POST', CMS, '{"a":' * deep + '1' + '}' * deep)
    refused(t, 'nested in metadata', 'POST', CMS, '{"metadata":{"name":"x"},"data":' + '{"a":' * deep + '1' + '}' * (deep + 1))
    refused(t, '100,000 open brackets', 'POST', CMS, '[' * 100000)
    refused(t, 'million numbers', 'POST', CMS, '[' + '1,' * 1400000 + '1]')
    refused(t, 'million empty objects', 'POST', CMS, '{"metadata":{"name":"x"},"data":[' + '{},' * 900000 + '{}]}')
    refused(t, 'huge number', 'POST', CMS, '{"metadata":{"name":"x","generation":' + '9' * 1000000 + '}}', codes=(400, 413, 422, 201))
    refused(t, 'number with a huge exponent', 'POST', CMS, '{"metadata":{"name":"y","generation":1e999999999}}', codes=(400, 413, 422, 201))
    refused(t, 'lone surrogate', 'POST', CMS, '{"metadata":{"name":"z"},"data":{"k":"\\ud800"}}', codes=(400, 201))
    refused(t, 'bytes that are no UTF-8', 'POST', CMS, b'{"metadata":{"name":"u"},"data":{"k":"\xff\xfe"}}', codes=(400, 422))
    refused(t, 'NUL', 'POST', CMS, b'{"metadata":{"name":"n"},"data":{"k":"a\0b"}}')
    refused(t, 'unfinished', 'POST', CMS, '{"metadata":{"name":"x"')
    refused(t, 'trailing bytes', 'POST', CMS, '{"metadata":{"name":"x"}}{}')
    refused(t, 'a body over the limit', 'POST', CMS, '{"metadata":{"name":"x"},"data":{"k":"' + 'v' * 3200000 + '"}}')
    refused(t, 'an object over the limit', 'POST', CMS, '{"metadata":{"name":"x"},"data":{"k":"' + 'v' * 2000000 + '"}}')
    keys = ','.join('"%x":"v"' % i for i in range(250000))
    refused(t, '250,000 keys', 'POST', CMS, '{"metadata":{"name":"keys"},"data":{' + keys + '}}', codes=(201, 413, 422, 400), took=10)
    refused(t, 'the same key 300,000 times', 'POST', CMS + '?fieldValidation=Strict',
            '{"metadata":{"name":"x"},"data":{' + ','.join(['"k":"v"'] * 300000) + '}}', took=10)
    refused(t, 'the same key, with warnings', 'POST', CMS + '?fieldValidation=Warn',
            '{"metadata":{"name":"dups"},"data":{' + ','.join(['"k":"v"'] * 300000) + '}}', codes=(201, 400, 413), took=10)
    refused(t, 'unknown fields', 'POST', CMS + '?fieldValidation=Warn',
            '{"metadata":{"name":"unk"},' + ','.join('"f%d":1' % i for i in range(150000)) + '}', codes=(201, 400, 413), took=10)
    refused(t, '1 MB of annotations', 'POST', CMS, {'metadata': {'name': 'ann', 'annotations': {'a%d' % i: 'v' * 100 for i in range(9000)}}},
            codes=(422,))
    refused(t, '100,000 labels', 'POST', CMS, {'metadata': {'name': 'lab', 'labels': {'a%d' % i: 'v' for i in range(100000)}}},
            codes=(201, 422, 413), took=10)
    refused(t, '100,000 owners', 'POST', CMS, {'metadata': {'name': 'own', 'ownerReferences': [
        {'apiVersion': 'v1', 'kind': 'ConfigMap', 'name': 'a', 'uid': '%d' % i} for i in range(30000)]}}, codes=(201, 422, 413), took=10)
    for n in ('keys', 'dups', 'unk', 'lab', 'own', 'x', 'y', 'z'):
        t.call('DELETE', CMS + '/' + n)


@attack(memory_mb=300)
def YAML_documents_that_are_hostile(t):
    y = 'application/yaml'
    laughs = 'a0: &a0 lol\n' + ''.join('a%d: &a%d [%s]\n' % (i, i, ','.join(['*a%d' % (i - 1)] * 9)) for i in range(1, 12))
    refused(t, 'billion laughs', 'POST', CMS, laughs, content_type=y)
    maps = 'a0: &a0 {k: v}\n' + ''.join('a%d: &a%d {%s}\n' % (i, i, ','.join('k%d: *a%d' % (j, i - 1) for j in range(9))) for i in range(1, 12))
    refused(t, 'billion maps', 'POST', CMS, maps, content_type=y)
    refused(t, 'alias of itself', 'POST', CMS, 'metadata: &m\n  name: x\n  labels: *m\n', content_type=y)
    refused(t, 'alias of nothing', 'POST', CMS, 'metadata: *m\n', content_type=y)
    refused(t, 'merge keys', 'POST', CMS, 'metadata: {name: x}\n' + 'b: &b {a: 1}\n' + 'data:\n  <<: [' + '*b,' * 50000 + '*b]\n',
            content_type=y, codes=(400, 413, 201))
    refused(t, 'deep flow', 'POST', CMS, '[' * 20000, content_type=y)
    refused(t, 'deep flow maps', 'POST', CMS, '{a: ' * 20000, content_type=y)
    refused(t, 'deep blocks', 'POST', CMS, ''.join(' ' * i + 'a:\n' for i in range(1500)), content_type=y)
    refused(t, 'deep sequences', 'POST', CMS, '- ' * 20000, content_type=y)
    refused(t, 'million scalars', 'POST', CMS, '[' + '1,' * 1400000 + '1]', content_type=y, took=10)
    refused(t, 'unfinished quote', 'POST', CMS, 'a: "' + 'x' * 1000000, content_type=y)
    refused(t, 'long anchor', 'POST', CMS, 'a: &' + 'x' * 1000000 + ' b', content_type=y)
    refused(t, 'many anchors', 'POST', CMS, ''.join('a%d: &a%d 1\n' % (i, i) for i in range(100000)), content_type=y, codes=(400, 413, 422, 201), took=10)
    refused(t, 'many documents', 'POST', CMS, '--- {}\n' * 100000, content_type=y, codes=(400, 413, 422, 201))
    refused(t, 'tag', 'POST', CMS, 'a: !!python/object/apply:os.system ["true"]\n', content_type=y)
    refused(t, 'complex key', 'POST', CMS, '? [a, b]\n: c\n', content_type=y)
    refused(t, 'bytes that are no UTF-8', 'POST', CMS, b'a: \xff\xfe\n', content_type=y)
    refused(t, 'long comment', 'POST', CMS, '# ' + 'x' * 2000000 + '\n', content_type=y, codes=(400, 422, 413))
    refused(t, 'long key', 'POST', CMS, '? ' + 'x' * 1000000 + '\n: y\n', content_type=y, codes=(400, 422, 413, 201))


@attack(memory_mb=200)
def protobuf_that_is_hostile(t):
    def varint(n):
        out = b''
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    def field(n, b):
        return varint(n << 3 | 2) + varint(len(b)) + b
    pb = 'application/vnd.kubernetes.protobuf'
    nested = b''
    for _ in range(20000):
        nested = field(1, nested)
        if len(nested) > 200000:
            break
    meta = field(1, field(1, b'v1') + field(2, b'ConfigMap'))
    cases = {'no magic': b'x' * 100, 'magic alone': b'k8s\0', 'garbage': b'k8s\0' + os.urandom(5000),
             'length that lies': b'k8s\0' + meta + b'\x12\xff\xff\xff\xff\x0f' + b'x', 'length of 2^64': b'k8s\0\x12' + b'\xff' * 9 + b'\x01',
             'endless varint': b'k8s\0' + b'\xff' * 10000, 'groups': b'k8s\0' + meta + field(2, b'\x0b' * 10000),
             'deep nesting': b'k8s\0' + meta + field(2, nested), 'deep nesting in metadata': b'k8s\0' + meta + field(2, field(1, nested)),
             'wire type 6': b'k8s\0' + meta + field(2, b'\x0e\x0e\x0e'), 'not UTF-8': b'k8s\0' + meta + field(2, field(1, field(1, b'\xff\xfe'))),
             'million entries': b'k8s\0' + meta + field(2, field(1, field(1, b'x')) + field(2, b'') * 1000000)}
    for name, body in cases.items():
        refused(t, name, 'POST', CMS, body, content_type=pb, codes=(400, 413, 415, 422))


@attack(memory_mb=300)
def patches_that_are_hostile(t):
    t.call('POST', CMS, {'metadata': {'name': 'p'}, 'data': {'k': 'v'}})
    path, jp = CMS + '/p', 'application/json-patch+json'
    refused(t, 'million operations', 'PATCH', path, '[' + ','.join(['{"op":"test"}'] * 200000) + ']', content_type=jp)
    ops = [{'op': 'add', 'path': '/data/a', 'value': 'x' * 100}] + [
        {'op': 'copy', 'from': '/data', 'path': '/data/c%d' % i} for i in range(60)]
    refused(t, 'copies that double', 'PATCH', path, ops, content_type=jp)
    refused(t, 'moves into itself', 'PATCH', path, [{'op': 'move', 'from': '/data', 'path': '/data/x'}], content_type=jp, codes=(400, 422))
    refused(t, 'deep path', 'PATCH', path, [{'op': 'add', 'path': '/a' * 100000, 'value': 1}], content_type=jp)
    refused(t, 'deep value', 'PATCH', path, '[{"op":"add","path":"/data/x","value":' + '[' * 9000 + ']' * 9000 + '}]', content_type=jp)
    refused(t, 'inserts at the front', 'PATCH', path, [{'op': 'add', 'path': '/metadata/finalizers', 'value': []}] + [
        {'op': 'add', 'path': '/metadata/finalizers/0', 'value': 'a/b'}] * 9990, content_type=jp, codes=(400, 413, 422, 200), took=10)
    refused(t, 'no operations list', 'PATCH', path, '{"op":"add"}', content_type=jp)
    refused(t, 'merge patch, deep', 'PATCH', path, '{"data":' * 9000 + '1' + '}' * 9000, content_type='application/merge-patch+json')
    refused(t, 'merge patch, many keys', 'PATCH', path, {'data': {'k%d' % i: 'v' for i in range(100000)}},
            content_type='application/merge-patch+json', codes=(200, 413, 422), took=10)
    t.call('DELETE', path)


@attack(memory_mb=300, worst_ms=2500)
def list_merges_are_not_quadratic(t):
    """Keyed lists of tens of thousands of items, by strategic merge and by apply."""
    n, path = 25000, '/api/v1/namespaces/default/serviceaccounts'
    t.call('POST', path, {'metadata': {'name': 'big'}, 'secrets': [{'name': 's%d' % i} for i in range(n)]})
    strategic, apply = 'application/strategic-merge-patch+json', 'application/apply-patch+yaml'
    refused(t, 'strategic merge', 'PATCH', path + '/big', {
        'secrets': [{'name': 's%d' % i, 'namespace': 'x'} for i in range(n - 1, -1, -1)],
        '$setElementOrder/secrets': [{'name': 's%d' % i} for i in range(n)]}, codes=(200,), took=5, content_type=strategic)
    refused(t, 'strategic deletes', 'PATCH', path + '/big', {'secrets': [{'name': 's%d' % i, '$patch': 'delete'} for i in range(n)]},
            codes=(200,), took=5, content_type=strategic)
    refused(t, 'strategic deletes of primitives', 'PATCH', path + '/big', {'metadata': {
        '$deleteFromPrimitiveList/finalizers': ['a/%d' % i for i in range(50000)]}}, codes=(200, 400, 422), took=5, content_type=strategic)
    refused(t, 'orders of nothing', 'PATCH', path + '/big', {'$setElementOrder/secrets': [{'name': 's%d' % i} for i in range(60000)]},
            codes=(200, 400, 422), took=5, content_type=strategic)
    t.call('DELETE', path + '/big')
    for manager in 'aba':
        refused(t, 'apply of a keyed list by ' + manager, 'PATCH', path + '/big2?force=true&fieldManager=' + manager, {
            'apiVersion': 'v1', 'kind': 'ServiceAccount', 'metadata': {'name': 'big2'},
            'secrets': [{'name': 's%d' % i, 'namespace': manager} for i in range(9000)]},
            codes=(200, 201, 413), took=5, content_type=apply)
    t.call('DELETE', path + '/big2')
    for manager in 'aba':
        refused(t, 'apply of a set by ' + manager, 'PATCH', CMS + '/fin?force=true&fieldManager=' + manager, {
            'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': 'fin', 'finalizers': ['a.b/f%d' % i for i in range(15000)]}},
            codes=(200, 201, 413, 422), took=5, content_type=apply)
    t.call('PATCH', CMS + '/fin', {'metadata': {'finalizers': None}}, content_type='application/merge-patch+json')
    t.call('DELETE', CMS + '/fin')


@attack(memory_mb=200)
def managed_fields_that_are_hostile(t):
    def entry(fields, i=0):
        return {'manager': 'm%d' % i, 'operation': 'Update', 'apiVersion': 'v1', 'fieldsType': 'FieldsV1', 'fieldsV1': fields,
                'time': '2024-01-01T00:00:00Z'}
    deep = {}
    for _ in range(200):
        deep = {'f:a': deep}
    for name, managed in {'deep': [entry(deep)], 'many managers': [entry({'f:data': {'f:k%d' % i: {}}}, i) for i in range(5000)],
                          'many fields': [entry({'f:data': {'f:k%d' % i: {} for i in range(50000)}})],
                          'bad keys': [entry({'x': {}}), entry({'k:{': {}}), entry({'v:': {}}), entry({'i:x': {}})],
                          'keys of keys': [entry({'f:a': {'k:{"a":"%d"}' % i: {'.': {}} for i in range(20000)}})],
                          'not a list': {'a': 1}, 'null': [None] * 1000}.items():
        refused(t, name, 'POST', CMS, {'metadata': {'name': 'mf', 'managedFields': managed}}, codes=(201, 400, 413, 422), took=8)
        refused(t, name + ', then apply', 'PATCH', CMS + '/mf?fieldManager=x&force=true',
                {'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': 'mf'}, 'data': {'k': 'v'}},
                content_type='application/apply-patch+yaml', codes=(200, 201, 400, 413, 422), took=8)
        t.call('DELETE', CMS + '/mf')


@attack()
def selectors_and_queries_that_are_hostile(t):
    for name, query, codes in [
            ('long label selector', 'labelSelector=' + ','.join('a%d' % i for i in range(7000)), (200, 400)),
            ('wide set', 'labelSelector=a+in+(' + ','.join('v%d' % i for i in range(8000)) + ')', (200, 400)),
            ('unfinished set', 'labelSelector=a+in+(' + 'b,' * 10000, (400,)),
            ('parentheses', 'labelSelector=' + '(' * 30000, (400,)),
            ('operators', 'labelSelector=' + '!' * 30000, (400,)),
            ('long field selector', 'fieldSelector=' + ','.join('metadata.name!=a%d' % i for i in range(3000)), (200, 400)),
            ('unknown field', 'fieldSelector=spec.nothing=a', (400,)),
            ('limit', 'limit=-1', (400,)), ('huge limit', 'limit=99999999999999999999', (400,)),
            ('resource version', 'resourceVersion=99999999999999999999', (400,)),
            ('resource version of the future', 'resourceVersion=9223372036854775807', (504,)),
            ('timeout', 'timeoutSeconds=-5&watch=1', (200, 400)),
            ('continue that is no token', 'limit=1&continue=xyz', (400,)),
            ('continue with a path', 'limit=1&continue=' + token('/../../secrets/default/x\0', 1), (200, 400, 410)),
            ('continue of the future', 'limit=1&continue=' + token('/a\0', 1 << 62), (400, 410)),
            ('continue of the past', 'limit=1&continue=' + token('/a\0', 1), (200, 410)),
            ('continue with a negative revision', 'limit=1&continue=' + token('/a\0', -7), (200, 400, 410)),
            ('continue with a long key', 'limit=1&continue=' + token('/' + 'a' * 30000, 1), (200, 400, 410)),
            ('continue that is deep', 'limit=1&continue=' + base64.urlsafe_b64encode(b'[' * 30000).decode().rstrip('='), (400,)),
            ('same parameter often', '&'.join('limit=%d' % i for i in range(6000)), (200, 400))]:
        with t.connect(10) as s:
            send(s, ('GET %s?%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n' % (CMS, query)).encode())
            s.settimeout(10)
            got = s.recv(65536)
        status = answer(got)[0]
        assert status in codes, '%s: want %s, got %d' % (name, codes, status)
    secret = t.call('GET', CMS + '?limit=5&continue=' + token('/../../secrets/\0', 1))[2]
    assert b'kubernetes.io/service-account' not in secret and b'"Secret"' not in secret


def token(start, rv):
    return base64.urlsafe_b64encode(json.dumps({'v': 'meta.k8s.io/v1', 'rv': rv, 'start': start}).encode()).decode().rstrip('=')


@attack(memory_mb=200, worst_ms=2500)
def CRDs_that_are_hostile(t):
    """Patterns that backtrack, schemas that are deep or wide."""
    def crd(name, schema):
        return {'apiVersion': 'apiextensions.k8s.io/v1', 'kind': 'CustomResourceDefinition', 'metadata': {'name': name + 's.hostile.io'},
                'spec': {'group': 'hostile.io', 'scope': 'Namespaced', 'names': {'plural': name + 's', 'singular': name, 'kind': name.title()},
                         'versions': [{'name': 'v1', 'served': True, 'storage': True, 'schema': {'openAPIV3Schema': schema}}]}}

    def obj(spec):
        return {'type': 'object', 'properties': {'spec': spec}}
    path = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'
    patterns = ['^(a+)+$', '^(a|a)*$', '^(a|aa)+$', '(x+x+)+y', '^(.*a){20}$', '((a{1,50}){1,50}){1,50}', '^(([a-z])+.)+[A-Z]([a-z])+$']
    props = {'p%d' % i: {'type': 'string', 'pattern': p} for i, p in enumerate(patterns)}
    status, _, body = t.call('POST', path, crd('redos', obj({'type': 'object', 'properties': props})))
    if status == 201:
        time.sleep(0.5)
        for i in range(len(patterns)):
            refused(t, 'text for %s' % patterns[i], 'POST', '/apis/hostile.io/v1/namespaces/default/redoss',
                    {'apiVersion': 'hostile.io/v1', 'kind': 'Redos', 'metadata': {'name': 'r%d' % i}, 'spec': {'p%d' % i: 'a' * 30000 + '!'}},
                    codes=(201, 422, 400), took=5)
        t.call('DELETE', path + '/redoss.hostile.io')
    else:
        expect(status, 422, 400)
    deep = {'type': 'string'}
    for _ in range(70):
        deep = {'type': 'object', 'properties': {'a': deep}}
    refused(t, 'deep schema', 'POST', path, crd('deep', deep), codes=(201, 400, 413, 422), took=10)
    wide = obj({'type': 'object', 'properties': {'p%d' % i: {'type': 'string', 'pattern': '^[a-z]{1,%d}$' % (i % 60 + 1)} for i in range(15000)}})
    refused(t, 'wide schema', 'POST', path, crd('wide', wide), codes=(201, 400, 413, 422), took=15)
    refused(t, 'large repetition', 'POST', path, crd('rep', obj({'type': 'string', 'pattern': '(((a{1000}){1000}){1000}){1000}'})),
            codes=(201, 400, 422), took=5)
    refused(t, 'long pattern', 'POST', path, crd('long', obj({'type': 'string', 'pattern': '(' * 50000 + ')' * 50000})),
            codes=(201, 400, 422), took=5)
    refused(t, 'pattern of alternatives', 'POST', path, crd('alt', obj({'type': 'string', 'pattern': '|'.join(['a*'] * 50000)})),
            codes=(201, 400, 422), took=5)
    for n in ('deep', 'wide', 'rep', 'long', 'alt'):
        t.call('DELETE', path + '/%ss.hostile.io' % n)


@attack()
def gzip_bodies_are_not_inflated(t):
    import zlib
    bomb = zlib.compress(b' ' * (200 << 20), 9, 31)
    refused(t, 'gzip bomb', 'POST', CMS, bomb, headers='Content-Encoding: gzip\r\n', codes=(400, 415))


# ---- fairness ----

HEAVY = 'Impersonate-User: heavy\r\nImpersonate-Group: system:masters\r\n'


def hammer(port, n, seconds):
    """A process with n connections that ask for big lists, or write big objects, as fast as they are answered."""
    pid = os.fork()
    if pid:
        return pid
    os.nice(10)
    try:
        big = json.dumps({'metadata': {'generateName': 'heavy-'}, 'data': {'k': 'v' * 200000}})
        requests = [('GET /api/v1/namespaces/heavy/configmaps HTTP/1.1\r\nHost: a\r\n%s\r\n' % HEAVY).encode(),
                    ('GET /api/v1/namespaces/heavy/configmaps?labelSelector=a%%3Db HTTP/1.1\r\nHost: a\r\n%s\r\n' % HEAVY).encode(),
                    ('POST /api/v1/namespaces/heavy/configmaps?dryRun=All HTTP/1.1\r\nHost: a\r\n%sContent-Type: application/json\r\n'
                     'Content-Length: %d\r\n\r\n%s' % (HEAVY, len(big), big)).encode()]
        poll, by_fd = select.poll(), {}

        def start(i):
            s = socket.create_connection(('127.0.0.1', port), 20)
            s.setblocking(False)
            by_fd[s.fileno()] = [s, i, requests[i % 3], b'']
            poll.register(s, select.POLLIN | select.POLLOUT)
        for i in range(n):
            start(i)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for fd, _ in poll.poll(100):
                c = by_fd[fd]
                try:
                    if c[2]:
                        c[2] = c[2][c[0].send(c[2]):]
                        if not c[2]:
                            poll.modify(fd, select.POLLIN)
                        continue
                    got = c[0].recv(1 << 18)
                    if not got:
                        raise OSError
                    c[3] = (c[3] + got)[-16:]
                    if c[3].endswith((b'}\n', b'0\r\n\r\n')):
                        c[1] += 1
                        c[2], c[3] = requests[c[1] % 3], b''
                        poll.modify(fd, select.POLLIN | select.POLLOUT)
                except BlockingIOError:
                    pass
                except OSError:
                    poll.unregister(fd)
                    del by_fd[fd]
                    c[0].close()
                    start(c[1])
    except OSError:
        pass
    finally:
        os._exit(0)


@attack(memory_mb=400, worst_ms=2500)
def one_bad_client_slows_no_other_beyond_its_share(t):
    """500 connections of one user ask for lists of 6 MB and write 200 KB, again and again; another user's small reads go on."""
    t.call('POST', '/api/v1/namespaces', {'metadata': {'name': 'heavy'}})
    for i in range(60):
        expect(t.call('POST', '/api/v1/namespaces/heavy/configmaps', {'metadata': {'name': 'h%d' % i}, 'data': {'k': os.urandom(50000).hex()}})[0], 201)

    def p99(seconds):
        begin = time.monotonic()
        time.sleep(seconds)
        took = sorted(x[1] for x in t.polite.between(begin, time.monotonic()))
        return took[int(len(took) * 0.99)] * 1000 if took else 1e6, len(took)
    alone, _ = p99(2)
    pids = [hammer(t.port, 125, 8) for _ in range(4)]
    time.sleep(2)
    busy, n = p99(5)
    metrics = t.call('GET', '/metrics')[2].decode()
    for pid in pids:
        os.waitpid(pid, 0)
    t.call('DELETE', '/api/v1/namespaces/heavy')
    queued = re.findall(r'^apiserver_flowcontrol_current_inqueue_requests\{.*"global-default"\} (\d+)', metrics, re.M)
    done = re.findall(r'^apiserver_flowcontrol_dispatched_requests_total\{.*"global-default"\} (\d+)', metrics, re.M)
    t.note = 'p99 %.1f ms alone, %.1f ms beside 500 connections; %d reads; queued %s, dispatched %s' % (
        alone, busy, n, ','.join(queued), ','.join(done))
    assert busy <= max(10 * alone, 150) * SLOW, t.note
    assert queued, 'no such metric'


# ---- what takes its time: make soak ----

@attack(memory_mb=120, soak=True)
def slow_bodies(t):
    """A byte of the body every few seconds: cut off after two minutes, over both protocols."""
    held = [t.connect() for _ in range(200)]
    for s in held:
        send(s, P + b'Content-Length: 1000\r\n\r\n{')
    h2 = [H2(t, timeout=200) for _ in range(20)]
    for c in h2:
        c.get(CMS.encode(), END_HEADERS, method=b'POST')
        c.send(frame(DATA, 0, 1, b'{'))
    for _ in range(27):
        time.sleep(5)
        for s in held:
            send(s, b' ')
        for c in h2:
            c.send(frame(DATA, 0, 1, b' '))
    left = sum(not closed(s) for s in held)
    resets = sum(c.reset_of(1, 1) in (8, 'closed', 'answered 408') for c in h2)
    for s in held + [c.s for c in h2]:
        s.close()
    expect((left, resets), (0, len(h2)))


@attack(memory_mb=200, soak=True)
def readers_that_take_nothing_are_cut_off(t):
    """Answers behind a window that stays shut, and a watch whose socket is full: 60 s, or a backlog of 4 MiB."""
    h2 = [H2(t, b'\0\4\0\0\0\0', timeout=100) for _ in range(20)]
    for c in h2:
        c.get(CMS.encode())
    watches = [t.connect() for _ in range(20)]
    for s in watches:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        send(s, b'GET %s?watch=1 HTTP/1.1\r\nHost: a\r\n\r\n' % CMS.encode())
    for i in range(100):
        t.call('POST', CMS, {'metadata': {'name': 'slow-%d' % i}, 'data': {'k': 'v' * 200000}})
        t.call('DELETE', CMS + '/slow-%d' % i)
    time.sleep(95)
    cut = sum(c.cut_off(1, 2) for c in h2)
    ended = 0
    for s in watches:
        recv_all(s, 2)
        ended += closed(s)
        s.close()
    expect((cut, ended), (20, 20))


@attack(memory_mb=200, soak=True, worst_ms=2500)
def all_of_it_at_once_for_a_while(t):
    """The quick attacks of the protocols, from eight threads, again and again."""
    quick = [malformed_requests_are_refused_and_nothing_is_smuggled, header_floods, endless_bodies, h2_requests_that_are_malformed,
             h2_made_you_reset, h2_continuation_flood, half_closed_and_forgotten_sockets, pipelined_requests_are_answered_in_order_and_bounded]
    end, wrong = time.monotonic() + 120, []

    def again(i):
        while time.monotonic() < end:
            try:
                quick[i](t)
            except (AssertionError, OSError) as e:
                wrong.append('%s: %s' % (quick[i].__name__, str(e)[:200]))
                return
    threads = [threading.Thread(target=again, args=(i,)) for i in range(len(quick))]
    for x in threads:
        x.start()
    for x in threads:
        x.join()
    assert not wrong, '; '.join(wrong)


# ---- running them ----

class Skip(Exception):
    pass


def quiet(server):
    """The server's memory once it has done with what the attack before had left in its sockets."""
    before, now = -1, server.memory('VmRSS')
    for _ in range(50):
        if abs(now - before) < 0.5:
            break
        time.sleep(0.1)
        before, now = now, server.memory('VmRSS')
    return now


def run(server, polite, attacks):
    global SLOW
    counts = {'ok': 0, 'FAIL': 0, 'skip': 0}
    for name, f, memory_mb, worst_ms, _ in attacks:
        held = quiet(server)
        SLOW = SLOWNESS * crowd()
        server.forget_peak()
        server.note = ''
        begun, cpu, wrong, verdict = time.monotonic(), server.cpu(), [], 'ok'
        try:
            f(server)
        except Skip as e:
            verdict, wrong = 'skip', [str(e)]
        except Exception as e:  # an attack that finds something
            wrong.append('%s: %s' % (type(e).__name__, str(e)[:1500]))
        time.sleep(0.1)
        end = time.monotonic()
        if server.p.poll() is not None:
            wrong.append('the server ended with %d:\n%s' % (server.p.returncode, server.output()))
            print('FAIL %s\n     %s' % (name, '\n     '.join(wrong)), flush=True)
            counts['FAIL'] += 1
            break
        peak = server.memory('VmHWM') - held
        seen = polite.between(begun, end)
        worst = max((took for _, took, _ in seen), default=end - begun) * 1000
        bad = sum(not ok for _, _, ok in seen)
        if verdict == 'ok':
            if peak > memory_mb:
                wrong.append('memory rose by %.0f MB, more than %d' % (peak, memory_mb))
            if worst > worst_ms * SLOW:
                wrong.append('another client waited %.0f ms, more than %d' % (worst, worst_ms * SLOW))
            if bad:
                wrong.append('%d requests of another client failed' % bad)
            verdict = 'FAIL' if wrong else 'ok'
        counts[verdict] += 1
        print('%-4s %s%s' % (verdict, name, ': ' + wrong[0] if verdict == 'skip' else
                             ' (%.1f s, %.1f s CPU, +%.0f MB; others at worst %.0f ms)' % (end - begun, server.cpu() - cpu, peak, worst)), flush=True)
        if server.note:
            print('     ' + server.note, flush=True)
        for line in wrong if verdict == 'FAIL' else []:
            print('     ' + line, flush=True)
    return counts


def ends_in_order(server):
    """SIGTERM: watches end as if their time were up, over HTTP/2 with a GOAWAY, and the server is gone soon."""
    watch = b'/api/v1/namespaces/default/configmaps?watch=1'
    h1, h2 = server.connect(), H2(server)
    send(h1, b'GET %s HTTP/1.1\r\nHost: a\r\n\r\n' % watch)
    stream = h2.get(watch)
    recv_first(h1)
    time.sleep(0.3)
    begun = time.monotonic()
    code = server.stop()
    took = time.monotonic() - begun
    frames = [(kind, flags & END_STREAM) for kind, flags, s, _ in h2.read(2) if kind == GOAWAY or s == stream]
    wrong = []
    if not recv_all(h1, 2).endswith(b'0\r\n\r\n'):
        wrong.append('the watch over HTTP/1.1 was cut')
    if (DATA, END_STREAM) not in frames or (GOAWAY, 0) not in [(k, 0) for k, _ in frames]:
        wrong.append('the watch over HTTP/2 ended with %s' % frames[-3:])
    if took > 5 * SLOW:
        wrong.append('it took %.1f s' % took)
    if code != 0:
        wrong.append('exit code %d' % code)
    print('%-4s the server ends in order' % ('FAIL' if wrong else 'ok'))
    for line in wrong:
        print('     ' + line)
    return not wrong


def main():
    p = argparse.ArgumentParser()
    p.add_argument('server')
    p.add_argument('--soak', action='store_true')
    p.add_argument('--only')
    p.add_argument('--list', action='store_true')
    a = p.parse_args()
    chosen = [x for x in ATTACKS if (a.soak or not x[4]) and (not a.only or re.search(a.only, x[0]))]
    if a.list:
        print('\n'.join(x[0] for x in chosen))
        return 0
    server = Server(a.server)
    polite = server.polite = Polite(server.port)
    try:
        counts = run(server, polite, chosen)
    finally:
        polite.stop()
        if server.p.poll() is None and sys.exc_info()[0]:
            server.stop()
    if server.p.poll() is None:
        counts['ok' if ends_in_order(server) else 'FAIL'] += 1
    print('%d passed, %d failed, %d skipped' % (counts['ok'], counts['FAIL'], counts['skip']))
    return 1 if counts['FAIL'] else 0


if __name__ == '__main__':
    sys.exit(main())
