#!/usr/bin/env python3
"""Sends recorded requests of a real API server to test-apiserver and compares status and body.

replay.py SERVER-BINARY DATA-DIR [FILE-PREFIX…]: prints each difference and "N passed, N failed, N skipped". Identities,
versions and times are normalized; what is accepted as different stands in accepted.txt beside this file, a reason each.
"""
import base64, http.client, json, os, re, signal, socket, ssl, subprocess, sys, tempfile, time

UNSERVED = re.compile(r'/apis/(apps/v1/(namespaces/[^/]+/)?(deployments|replicasets|daemonsets|statefulsets)|batch|policy/v1)|'
                      r'devtoken|nodes/wire-node')
VOLATILE = {'uid', 'resourceVersion', 'creationTimestamp', 'deletionTimestamp', 'time', 'continue', 'remainingItemCount',
            'lastTransitionTime', 'description', 'kubernetes.io/description'}


def sections(path):
    text = open(path, encoding='utf-8', errors='replace').read()
    for part in re.split(r'^==== ', text, flags=re.M)[1:]:
        head, _, rest = part.partition('\n')
        if '>>>> REQUEST\n' not in rest or '<<<< RESPONSE' not in rest:
            continue
        request, _, response = rest.partition('<<<< RESPONSE')
        request = request.split('>>>> REQUEST\n', 1)[1]
        response = response.partition('\n')[2]
        lines, _, body = request.partition('\n\n')
        first, *headers = lines.split('\n')
        headers = dict(h.split(': ', 1) for h in headers if ': ' in h)
        length = int(headers.get('Content-Length', '0'))
        body = body.encode()[:length]
        rhead, _, rbody = response.partition('\n\n')
        rbody = rbody.split('\n####')[0]
        yield head, first.split(' ')[0], first.split(' ')[1], headers, body, int(rhead.split(' ')[1]), rbody.strip()


def normal(v):
    if isinstance(v, dict):
        return {k: normal(x) for k, x in v.items() if k not in VOLATILE}
    if isinstance(v, list):
        return [normal(x) for x in v]
    if isinstance(v, str):
        v = re.sub(r'[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}', 'UID', v)
        v = re.sub(r'^(kube-)?(apiserver|controller-manager)$', 'server', v)
        v = re.sub(r'^\d+s$', 'AGE', v)
        v = re.sub(r'resourceVersion: "\d+"', 'resourceVersion: N', v)
        v = re.sub(r'-----BEGIN.*', 'PEM', v, flags=re.S)
        v = re.sub(r'\bgen-[a-z0-9]{5}\b', 'gen-x', v)
        v = re.sub(r'20\d\d-\d\d-\d\dT[0-9:.]+Z', 'TIME', v)
        v = re.sub(r'(current: |record \(|version: )\d+( \(\d+\))?', r'\1N', v)
    return v


def call(port, method, path, headers, body, tls=False):
    c = (http.client.HTTPSConnection('127.0.0.1', port, timeout=20, context=ssl._create_unverified_context()) if tls
         else http.client.HTTPConnection('127.0.0.1', port, timeout=20))
    skip = ('Host', 'Content-Length') + (() if tls else ('Authorization',))
    c.putrequest(method, path, skip_host=False, skip_accept_encoding=True)
    for k, v in headers.items():
        if k not in skip:
            c.putheader(k, v)
    if body or method in ('POST', 'PUT', 'PATCH'):
        c.putheader('Content-Length', str(len(body)))
    c.endheaders(body if body else None)
    r = c.getresponse()
    return r.status, r.read().decode('utf-8', 'replace')


def make(port, plural, name, extra=None, ns='wire', group='/api/v1', kind='ConfigMap'):
    o = {'apiVersion': 'v1' if group == '/api/v1' else group[6:], 'kind': kind, 'metadata': {'name': name}, 'data': {'k': 'v'}}
    for k, v in (extra or {}).items():
        if k == 'data':
            o['data'] = v
        else:
            o['metadata'][k] = v
    return call(port, 'POST', f'{group}/namespaces/{ns}/{plural}', {'Content-Type': 'application/json',
                'User-Agent': 'wire-recorder/1'}, json.dumps(o).encode())


def prepare(port, name):
    """What the recorder had made before each file, besides what it recorded."""
    call(port, 'POST', '/api/v1/namespaces', {'Content-Type': 'application/json', 'User-Agent': 'wire-recorder/1'},
         b'{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"wire"}}') if not name.startswith('15') else None
    if name.startswith(('02', '04')):
        for i in range(5):
            make(port, 'configmaps', f'list-{i}', {'labels': {'odd': str(i % 2), 'set': 'l'}})
    if name.startswith(('06', '07', '08', '14')):
        make(port, 'configmaps', 'pat', {'data': {'a': '1', 'b': '2'}})
    if name.startswith('09'):
        for n in 'abcd':
            make(port, 'configmaps', f'del-{n}')
        make(port, 'configmaps', 'fin', {'finalizers': ['example.com/hold']})
        for i in range(5):
            make(port, 'configmaps', f'list-{i}', {'labels': {'odd': str(i % 2), 'set': 'l'}})
    time.sleep(0.3)


def diff(a, b, path=''):
    if type(a) != type(b):
        return [f'{path}: want {json.dumps(a)[:160]}, got {json.dumps(b)[:160]}']
    if isinstance(a, dict):
        out = []
        for k in sorted(set(a) | set(b)):
            if k not in b:
                out.append(f'{path}.{k}: missing, want {json.dumps(a[k])[:160]}')
            elif k not in a:
                out.append(f'{path}.{k}: unwanted {json.dumps(b[k])[:160]}')
            else:
                out += diff(a[k], b[k], f'{path}.{k}')
        return out
    if isinstance(a, list):
        if len(a) != len(b):
            return [f'{path}: want {len(a)} items, got {len(b)}']
        return [d for i, (x, y) in enumerate(zip(a, b)) for d in diff(x, y, f'{path}[{i}]')]
    return [] if a == b else [f'{path}: want {json.dumps(a)[:300]}, got {json.dumps(b)[:300]}']


def main():
    binary, data = sys.argv[1:3]
    wire = os.path.join(data, 'k8s-wire')
    if not os.path.isdir(wire):
        print('no recordings: skipped')
        return 77
    here = os.path.dirname(os.path.abspath(__file__))
    accepted = {}
    for line in open(os.path.join(here, 'accepted.txt')):
        if line.strip() and not line.startswith('#'):
            key, _, reason = line.strip().partition(' ')
            accepted[key] = reason
    counts = {'passed': 0, 'failed': 0, 'skipped': 0}
    for name in sorted(os.listdir(wire)):
        if not re.match(r'\d\d-', name) or (sys.argv[3:] and not any(name.startswith(p) for p in sys.argv[3:])):
            continue
        with tempfile.TemporaryDirectory() as tmp:
            ports = []
            for _ in range(2):
                s = socket.socket()
                s.bind(('127.0.0.1', 0))
                ports.append(s)
            numbers = [s.getsockname()[1] for s in ports]
            for s in ports:
                s.close()
            p = subprocess.Popen([binary, tmp, str(numbers[0]), str(numbers[1])], stderr=subprocess.DEVNULL)
            try:
                for _ in range(100):
                    try:
                        if call(numbers[0], 'GET', '/readyz', {}, b'')[0] == 200:
                            break
                    except OSError:
                        pass
                    time.sleep(0.05)
                prepare(numbers[0], name)
                replay(os.path.join(wire, name), name, numbers, accepted, counts)
            finally:
                p.send_signal(signal.SIGTERM)
                if p.wait(timeout=20) != 0:
                    print(f'{name}: the server ended with {p.returncode}')
                    counts['failed'] += 1
    print(', '.join(f'{n} {k}' for k, n in counts.items()))
    return 1 if counts['failed'] else 0


def renumber(target, revisions):
    """Versions of the recording become those that this server gave for them."""
    def token(m):
        raw = base64.urlsafe_b64decode(m.group(1) + '=' * (-len(m.group(1)) % 4))
        try:
            v = json.loads(raw)
        except ValueError:
            return m.group(0)
        v['rv'] = revisions.get(str(v['rv']), v['rv'])
        return 'continue=' + base64.urlsafe_b64encode(json.dumps(v).encode()).decode().rstrip('=')
    target = re.sub(r'continue=([\w-]+)', token, target)
    return re.sub(r'resourceVersion=(\d+)', lambda m: 'resourceVersion=%s' % revisions.get(m.group(1), m.group(1)), target)


def learn(want, got, revisions):
    if isinstance(want, dict) and isinstance(got, dict):
        for k in want:
            if k == 'resourceVersion' and k in got and str(got[k]).isdigit():
                revisions[want[k]] = int(got[k])
            elif k in got:
                learn(want[k], got[k], revisions)
    elif isinstance(want, list) and isinstance(got, list):
        for a, b in zip(want, got):
            learn(a, b, revisions)


BEFORE = {
    '02-4': lambda port: make(port, 'configmaps', 'list-9', {'labels': {'set': 'l'}}),
    '15-4': lambda port: time.sleep(0.5),
    '10-2': lambda port: time.sleep(0.3),
    '10-27': lambda port: time.sleep(1),
}


def replay(path, name, ports, accepted, counts):
    revisions = {}
    port = ports[0]
    for head, method, target, headers, body, status, want in sections(path):
        key = f'{name[:2]}-{head.split(".")[0]}'
        if UNSERVED.search(target + headers.get('X', '') + body.decode('utf-8', 'replace')) or any(
                key == a or (a.endswith('*') and key.startswith(a[:-1])) for a in accepted):
            counts['skipped'] += 1
            continue
        BEFORE.get(key, lambda port: None)(port)
        target = renumber(target, revisions)
        body = re.sub(rb'("resourceVersion": ")(\d+)"', lambda m: m.group(1) + str(
            revisions.get(m.group(2).decode(), m.group(2).decode())).encode() + b'"', body)
        known = headers.get('Authorization', '') == 'Bearer devtoken'
        got_status, got = call(port, method, target, headers, body) if known else call(ports[1], method, target, headers, body, True)
        problems = []
        if got_status != status:
            problems.append(f'status {got_status}, want {status}: {got[:300]}')
        elif want.startswith('{') and '...[cut' not in want:
            try:
                a = [normal(json.loads(x)) for x in want.split('\n') if x] if 'watch=1' in target else normal(json.loads(want))
                b = [normal(json.loads(x)) for x in got.split('\n') if x] if 'watch=1' in target else normal(json.loads(got))
                problems += diff(a, b)
                if 'watch=1' not in target:
                    learn(json.loads(want), json.loads(got), revisions)
            except ValueError as e:
                problems.append(f'unreadable: {e}: {got[:200]}')
        elif not want.startswith(('{', '(hex', '#')) and '...[cut' not in want and want and normal(want) != normal(got.strip()):
            problems.append(f'text differs: want {want[:200]!r}, got {got[:200]!r}')
        counts['failed' if problems else 'passed'] += 1
        for line in problems[:6]:
            print(f'{key} {method} {target}: {line}')


sys.exit(main())
