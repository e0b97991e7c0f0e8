#!/usr/bin/env python3
"""Sends recorded requests of a real API server to test-apiserver and compares status, headers and body.

replay.py SERVER-BINARY DATA-DIR [FILE-PREFIX…]: prints each difference and "N the same, N differ, …". The recordings are one
session, so they are always played as one, in the order in which they were made; FILE-PREFIX (or FILE-NUMBER, "03-2") chooses what is
reported. What the recorder or a controller did without a record of it is played by BEFORE and BESIDE. Identities, versions and times
are replaced by ours in later requests and compared by form. Differences that are accepted stand in accepted.txt beside this file; it says how it is read.
"""
import base64, fnmatch, gzip, http.client, json, os, re, socket, ssl, subprocess, sys, tempfile, threading, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import apiserver

AGENT = 'wire-recorder/1'
NS = '/api/v1/namespaces/wire'
JSON = {'Content-Type': 'application/json', 'User-Agent': AGENT}
# Compared by form only: same kind of value on both sides.
FORMED = {'uid', 'resourceVersion', 'creationTimestamp', 'deletionTimestamp', 'time', 'continue', 'lastTransitionTime'}
# Headers that say nothing about the answer, or depend on how the bytes were sent.
UNCOMPARED = {'date', 'content-length', 'transfer-encoding', 'connection', 'keep-alive'}


class Section:
    def __init__(self, file, part):
        head, _, rest = part.partition('\n')
        request, _, response = rest.partition('<<<< RESPONSE')
        request = request.split('>>>> REQUEST\n', 1)[1]
        response = response.partition('\n')[2]
        lines, _, body = request.partition('\n\n')
        first, *headers = lines.split('\n')
        self.key = f'{file[:2]}-{head.split(".")[0]}'
        self.method, self.target = first.split(' ')[:2]
        self.headers = dict(h.split(': ', 1) for h in headers if ': ' in h)
        self.body = body.encode()[:int(self.headers.get('Content-Length', '0'))]
        head, _, self.want = response.partition('\n\n')
        self.status = int(head.split(' ')[1])
        self.want_headers = {}
        for h in head.split('\n')[1:]:
            if ': ' in h:
                name, value = h.split(': ', 1)
                self.want_headers.setdefault(name.lower(), []).append(value)
        self.want, _, note = self.want.partition('\n####')
        self.want = self.want.strip()
        self.note = note.strip()
        self.watch = 'watch=1' in self.target or '/watch/' in self.target


def sections(path):
    name = os.path.basename(path)
    text = open(path, encoding='utf-8', errors='replace').read()
    return [Section(name, p) for p in re.split(r'^==== ', text, flags=re.M)[1:] if '>>>> REQUEST\n' in p and '<<<< RESPONSE' in p]


# Normalization.

def form(key, v):
    if not isinstance(v, str):
        return v
    if key == 'continue':
        return 'TOKEN' if v else v
    return 'UID' if key == 'uid' and re.fullmatch(r'[0-9a-f-]{36}', v) else 'N' if v.isdigit() else 'TIME' if v[:2] == '20' else v


def normal(v, key=''):
    if isinstance(v, dict):
        return {normal(k): form(k, x) if k in FORMED else normal(x, k) for k, x in v.items()}
    if isinstance(v, list):
        return [normal(x) for x in v]
    if isinstance(v, str):
        v = re.sub(r'[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}', 'UID', v)
        v = re.sub(r'^kube-apiserver$', 'apiserver', v)
        v = re.sub(r'^\d+s$', 'AGE', v)
        v = re.sub(r'(resourceVersion: )"\d+"', r'\1N', v)
        v = re.sub(r'-----BEGIN.*', 'PEM', v, flags=re.S)
        v = re.sub(r'\bgen-[a-z0-9]{5}\b', 'gen-x', v)
        v = re.sub(r'\bkube-api-access-[a-z0-9]{5}\b', 'kube-api-access-x', v)
        v = re.sub(r'20\d\d-\d\d-\d\dT[0-9:.]+Z', 'TIME', v)
        v = re.sub(r'(current: |record \(|version: )\d+( \(\d+\))?', r'\1N', v)
        v = re.sub(r'\?hash=[0-9A-F]{128}', '?hash=HASH', v)
        v = re.sub(r'^ey[\w-]+\.ey[\w-]+\.[\w-]+$', jwt_form, v)
    return v


def jwt_form(m):
    payload = m.group(0).split('.')[1]
    claims = normal(json.loads(base64.urlsafe_b64decode(payload + '=' * (-len(payload) % 4))))
    return 'JWT ' + json.dumps({k: 'N' if isinstance(v, int) else v for k, v in claims.items()}, sort_keys=True)


def short(v):
    return json.dumps(v)[:200]


def diff(a, b, path=''):
    """[(path, text)] of what differs; the order of members counts too."""
    if type(a) != type(b):
        return [(path, f'want {short(a)}, got {short(b)}')]
    if isinstance(a, dict):
        out = []
        for k in a:
            if k not in b:
                out.append((f'{path}.{k}', f'missing, want {short(a[k])}'))
            else:
                out += diff(a[k], b[k], f'{path}.{k}')
        out += [(f'{path}.{k}', f'unwanted {short(b[k])}') for k in b if k not in a]
        order = [k for k in a if k in b], [k for k in b if k in a]
        if order[0] != order[1]:
            out.append((f'{path}#order', f'want {order[0]}, got {order[1]}'))
        return out
    if isinstance(a, list):
        out = [] if len(a) == len(b) else [(path, f'want {len(a)} items, got {len(b)}: {short(b)}')]
        return out + [d for i, (x, y) in enumerate(zip(a, b)) for d in diff(x, y, f'{path}[{i}]')]
    return [] if a == b else [(path, f'want {json.dumps(a)[:1200]}, got {json.dumps(b)[:1200]}')]


def header_diff(want, got, method):
    out = []
    for name in sorted(set(want) | set(got)):
        if name in UNCOMPARED or name.startswith('x-kubernetes-pf-'):  # which FlowSchema an answer was counted under
            continue
        a, b = want.get(name), got.get(name)
        if a is None or b is None:
            out.append((f'header:{name}', f'want {a}, got {b}'))
        elif name == 'audit-id':
            if not re.fullmatch(r'[0-9a-f-]{36}', b[0]):
                out.append((f'header:{name}', f'no UUID: {b}'))
        elif name == 'etag':
            if not re.fullmatch(r'"[0-9A-F]{128}"', b[0]):
                out.append((f'header:{name}', f'want the form of {a}, got {b}'))
        elif name in ('last-modified', 'expires'):
            pass
        elif [normal(x) for x in a] != [normal(x) for x in b]:
            out.append((f'header:{name}', f'want {a}, got {b}'))
    return out


# The server.

class Server(apiserver.Process):
    def call(self, method, path, headers, body=b'', tls=False):
        """Status, headers (lower case, lists) and body. Without TLS the caller is the recorder's administrator."""
        c = (http.client.HTTPSConnection('127.0.0.1', self.ports[1], timeout=20, context=ssl._create_unverified_context()) if tls
             else http.client.HTTPConnection('127.0.0.1', self.ports[0], timeout=20))
        c.putrequest(method, path, skip_accept_encoding=True)
        for k, v in headers.items():
            if k not in ('Host', 'Content-Length') and (tls or k != 'Authorization'):
                c.putheader(k, v)
        if body or method in ('POST', 'PUT', 'PATCH'):
            c.putheader('Content-Length', str(len(body)))
        c.endheaders(body if body else None)
        r = c.getresponse()
        got = {}
        for k, v in r.getheaders():
            got.setdefault(k.lower(), []).append(v)
        return r.status, got, r.read()

    def write(self, method, path, body=None, agent=AGENT, kind='application/json'):
        """What the recorder (or a controller, by its agent's name) did without a record."""
        status, _, got = self.call(method, path, {'Content-Type': kind, 'User-Agent': agent},
                                   json.dumps(body).encode() if body is not None else b'')
        if status >= 300 and status != 404:
            print(f'preparation: {method} {path}: {status} {got[:300]}')
        return got


# What was there without a record of it.

def configmap(name, data=None, **meta):
    return {'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': name, **meta}, 'data': data or {'k': 'v'}}


def pod(name, **spec):
    return {'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': name, 'labels': {'app': name}},
            'spec': {'containers': [{'name': 'c', 'image': 'img'}], **spec}}


def maps(s, *objects):
    for o in objects:
        s.write('POST', NS + '/configmaps', o)


def pods_of_04(s):
    s.write('POST', NS + '/pods', pod('p1'))
    s.write('PATCH', NS + '/pods/p1/status', {'status': {'conditions': [
        {'type': 'PodScheduled', 'status': 'False', 'reason': 'Unschedulable', 'message': 'no nodes available to schedule pods',
         'observedGeneration': 1, 'lastProbeTime': None, 'lastTransitionTime': '2026-11-22T01:17:09Z'}]}},
        'kube-scheduler/v1.36.2', 'application/strategic-merge-patch+json')


def budget(s, allowed, healthy):
    s.write('PATCH', '/apis/policy/v1/namespaces/wire/poddisruptionbudgets/pdb/status', {'status': {
        'observedGeneration': 1, 'disruptionsAllowed': allowed, 'currentHealthy': 1, 'desiredHealthy': healthy, 'expectedPods': 1,
        'conditions': [{'type': 'DisruptionAllowed', 'status': 'True' if allowed else 'False', 'observedGeneration': 1,
                        'lastTransitionTime': '2026-11-22T01:17:26Z',
                        'reason': 'SufficientPods' if allowed else 'InsufficientPods', 'message': ''}]}},
        'kube-controller-manager/v1.36.2', 'application/merge-patch+json')


def budget_of_11(s):
    if time.time() % 1 > 0.6:
        time.sleep(0.5)   # both writes in one second, as they were: owners are sorted by it
    s.write('POST', '/apis/policy/v1/namespaces/wire/poddisruptionbudgets',
            {'apiVersion': 'policy/v1', 'kind': 'PodDisruptionBudget', 'metadata': {'name': 'pdb'},
             'spec': {'minAvailable': 1, 'selector': {'matchLabels': {'app': 'b1'}}}})
    budget(s, 0, 1)


def gizmos(s):
    schema = {'type': 'object', 'properties': {
        'spec': {'type': 'object', 'properties': {
            'size': {'type': 'integer'}, 'replicas': {'type': 'integer'},
            'items': {'type': 'array', 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['name'],
                      'items': {'type': 'object', 'required': ['name'],
                                'properties': {'name': {'type': 'string'}, 'v': {'type': 'string'}}}}}},
        'status': {'type': 'object', 'properties': {'replicas': {'type': 'integer'}}}}}
    s.write('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
        'apiVersion': 'apiextensions.k8s.io/v1', 'kind': 'CustomResourceDefinition', 'metadata': {'name': 'gizmos.ex2.io'},
        'spec': {'group': 'ex2.io', 'scope': 'Namespaced',
                 'names': {'plural': 'gizmos', 'singular': 'gizmo', 'kind': 'Gizmo', 'listKind': 'GizmoList'},
                 'versions': [{'name': 'v1', 'served': True, 'storage': True, 'schema': {'openAPIV3Schema': schema},
                               'subresources': {'status': {}, 'scale': {'specReplicasPath': '.spec.replicas',
                                                                        'statusReplicasPath': '.status.replicas'}}}]}})
    time.sleep(1)


def expiring(s):
    """After the first page every object changes, and the server forgets the past."""
    for i in range(4):
        s.write('PATCH', f'{NS}/configmaps/exp-{i}', {'data': {'z': '1'}}, kind='application/merge-patch+json')


def walk(s):
    """A writer beside a watch."""
    url = NS + '/configmaps/w1'
    maps(s, configmap('w1', labels={'w': 'y'}))
    s.write('PATCH', url, {'data': {'k': 'v2'}}, kind='application/merge-patch+json')
    s.write('PATCH', url, {'metadata': {'labels': {'w': 'n'}}}, kind='application/merge-patch+json')
    s.write('DELETE', url)


BEFORE = {
    '15-3': lambda s: s.write('POST', NS + '/configmaps', configmap(
        'openshift-service-ca.crt', {'service-ca.crt': ''}, annotations={'service.beta.openshift.io/inject-cabundle': 'true'}),
        'kube-controller-manager/v1'),
    '02-1': lambda s: maps(s, *(configmap(f'list-{i}', labels={'odd': str(i % 2), 'set': 'l'}) for i in range(5))),
    '02-4': lambda s: maps(s, configmap('list-9', labels={'set': 'l'})),
    '04-1': pods_of_04,
    '06-1': lambda s: maps(s, configmap('pat', {'a': '1', 'b': '2'})),
    '09-1': lambda s: maps(s, *(configmap('del-' + c) for c in 'abcd'), configmap('fin', finalizers=['example.com/hold'])),
    '09-26': lambda s: s.write('POST', NS + '/pods', pod('p2', nodeName='nonode')),
    '10-2': lambda s: time.sleep(0.5),
    '10-27': lambda s: time.sleep(2),
    '11-5': lambda s: s.write('POST', NS + '/pods', pod('b1', schedulerName='none')),
    '11-11': budget_of_11,
    '11-13': lambda s: budget(s, 1, 0),
    '11-15': lambda s: s.write('POST', '/api/v1/nodes', {'apiVersion': 'v1', 'kind': 'Node', 'metadata': {'name': 'wire-node'}}),
    '16-1': lambda s: maps(s, *(configmap(f'exp-{i}', labels={'set': 'e'}) for i in range(4))),
    '16-2': expiring,
    '17-4': gizmos,
}
TEXTS = {'10-25'}  # recorded in part, and of one form wherever they come from
BESIDE = {'03-2': walk, '03-3': walk}


# Playing it.

class Session:
    def __init__(self, server, unserved):
        self.s, self.unserved = server, unserved
        self.groups = {g['name'] for g in json.loads(server.call('GET', '/apis', {})[2])['groups']}
        self.revisions, self.uids, self.newest = {}, {}, 0

    def learn(self, want, got):
        if isinstance(want, dict) and isinstance(got, dict):
            for k in want:
                if k == 'resourceVersion' and str(want[k]).isdigit() and str(got.get(k, '')).isdigit():
                    self.revisions[want[k]] = got[k]
                    self.newest = max(self.newest, int(got[k]))
                elif k == 'uid' and got.get(k):
                    self.uids[str(want[k])] = str(got[k])
                elif k in got:
                    self.learn(want[k], got[k])
        elif isinstance(want, list) and isinstance(got, list):
            for a, b in zip(want, got):
                self.learn(a, b)

    def revision(self, n):
        """Ours for one of the recording. One that was never shown was the newest; absurd ones stay."""
        return self.revisions.get(n, n if int(n) > 10**6 or int(n) < 2 else str(self.newest))

    def token(self, m):
        raw = base64.urlsafe_b64decode(m.group(1) + '=' * (-len(m.group(1)) % 4))
        try:
            v = json.loads(raw)
        except ValueError:
            return m.group(0)
        v['rv'] = int(self.revision(str(v['rv'])))
        return 'continue=' + base64.urlsafe_b64encode(json.dumps(v).encode()).decode().rstrip('=')

    def ours(self, x):
        """Target and body, with our versions and identities."""
        target = re.sub(r'continue=([\w-]+)', self.token, x.target)
        target = re.sub(r'resourceVersion=(\d+)', lambda m: 'resourceVersion=' + self.revision(m.group(1)), target)
        body = re.sub(r'("resourceVersion": ")(\d+)"', lambda m: m.group(1) + self.revision(m.group(2)) + '"', x.body.decode('utf-8', 'surrogateescape'))
        for theirs, mine in self.uids.items():
            body = body.replace(theirs, mine)
        return target, body.encode('utf-8', 'surrogateescape')

    def play(self, x):
        """[(path, text)]: what differs."""
        BEFORE.get(x.key, lambda s: None)(self.s)
        target, body = self.ours(x)
        headers = {k: v for k, v in x.headers.items()}
        known = headers.get('Authorization', '') == 'Bearer devtoken'
        if known and 'Impersonate-User' not in headers:
            headers |= {'Impersonate-User': 'token-user', 'Impersonate-Uid': 'token-user', 'Impersonate-Group': 'system:masters'}
        if 'If-None-Match' in headers:
            headers['If-None-Match'] = self.s.call('GET', target, {k: v for k, v in headers.items() if k != 'If-None-Match'})[1].get('etag', ['"?"'])[0]
        writer = threading.Timer(0.3, BESIDE[x.key], [self.s]) if x.key in BESIDE else None
        if writer:
            writer.start()
        status, got_headers, got = self.s.call(x.method, target, headers, body, not known)
        if writer:
            writer.join()
        if status != x.status:
            return [('status', f'{status}, want {x.status}: {got[:400]}')]
        return header_diff(x.want_headers, got_headers, x.method) + self.body_diff(x, got, got_headers)

    def body_diff(self, x, raw, got_headers):
        if x.want.startswith('(hex'):
            want = bytes.fromhex(x.want.partition(') ')[2])
            if 'content-encoding' in got_headers:
                return [] if raw[:3] == want[:3] and gzip.decompress(raw) else [('', 'not gzip')]
            return protobuf_diff(want, raw) if want.startswith(b'k8s\0') else self.json_diff(x, want.decode(), raw.decode())
        if '...[cut' in x.want:
            return self.text_diff(x.want.split('\n...[cut')[0], raw.decode('utf-8', 'replace')) if x.key in TEXTS else []
        return self.json_diff(x, x.want, raw.decode('utf-8', 'replace'))

    def text_diff(self, want, got):
        """The beginnings of two texts."""
        want, got = (re.sub(r'("resourceVersion":)"\d+"', r'\1"N"', normal(t)) for t in (want[:-40], got))
        at = next((i for i, (a, b) in enumerate(zip(want, got)) if a != b), min(len(want), len(got)))
        return [] if got.startswith(want) else [('', f'text: want {want[max(0, at - 60):at + 200]!r}, got {got[max(0, at - 60):at + 200]!r}')]

    def served_part(self, doc):
        """A discovery document without what is not served here; those kinds are listed by name at the end."""
        if doc.get('kind') == 'APIGroupList':
            return doc | {'groups': [g for g in doc['groups'] if g['name'] in self.groups]}
        if doc.get('kind') == 'APIResourceList':
            return doc | {'resources': [r for r in doc['resources']
                                        if (doc['groupVersion'], r['name']) not in self.unserved]}
        if doc.get('kind') == 'Table':
            return doc | {'rows': [r for r in doc['rows'] if not r['cells'][0].startswith('d1-')]}  # the pod of a Deployment
        return doc

    def json_diff(self, x, want, got):
        if not want.startswith('{'):
            return [] if normal(want) == normal(got.strip()) else [('', f'text: want {want[:300]!r}, got {got[:300]!r}')]
        try:
            if not x.watch or x.status != 200:
                want, got = json.loads(want), json.loads(got)
                self.learn(want, got)
                return diff(normal(self.served_part(want)), normal(got))
            want, got = ([json.loads(line) for line in t.split('\n') if line] for t in (want, got))
            self.learn(want, got)
            return diff([normal(v) for v in want], [normal(v) for v in got])
        except ValueError as e:
            return [('', f'unreadable: {e}: {got[:200]!r}')]


def message(data):
    """[(number, value or message)] of protobuf bytes, without empty fields; None when they are none."""
    out, i = [], 0

    def varint():
        nonlocal i
        v = shift = 0
        while True:
            v |= (data[i] & 127) << shift
            i, shift = i + 1, shift + 7
            if data[i - 1] < 128:
                return v
    try:
        while i < len(data):
            tag = varint()
            if tag & 7 == 0:
                value = varint()
            elif tag & 7 == 2:
                n = varint()
                if i + n > len(data):
                    return None
                value, i = data[i:i + n], i + n
                value = value if re.fullmatch(rb'[ -~]+', value) else message(value) or value
            else:
                return None
            if tag < 8:
                return None
            if value:
                out.append((tag >> 3, value))
    except IndexError:
        return None
    return out


def protobuf_diff(want, got):
    """Same fields and values but for versions, identities and times; fields that are empty may be left out."""
    mask = lambda v: ([(n, mask(x)) for n, x in v] if isinstance(v, list) else 'TIME' if isinstance(v, int) and v > 1700000000 else
                      re.sub(rb'[0-9a-f]{8}-[0-9a-f-]{27}|^\d+$', b'X', v) if isinstance(v, bytes) else v)
    a, b = mask(message(want[4:])), mask(message(got[4:]))
    return [] if a == b and got[:4] == b'k8s\0' else [('', f'protobuf: want {a}, got {b}')]


def resources(doc, group_version):
    return {(group_version, r['name']) for r in doc.get('resources', [])}


def unserved_kinds(server, data):
    """(group/version, plural or plural/subresource) that the recorded server had and this one has not."""
    missing = set()
    folder = os.path.join(data, 'k8s-openapi')
    for name in os.listdir(folder):
        m = re.fullmatch(r'resources-(?:api_|(apis_(.+)_))(v\w+)\.json', name)
        if m:
            gv = f'{m.group(2)}/{m.group(3)}' if m.group(1) else 'v1'
            status, _, got = server.call('GET', ('/apis/' if m.group(1) else '/api/') + gv, {})
            missing |= resources(json.load(open(os.path.join(folder, name))), gv) - (resources(json.loads(got), gv) if status == 200 else set())
    return missing


def kind_of(target):
    m = re.match(r'/(?:api|apis/([^/]+))/(v\w+)/(?:watch/)?(?:namespaces/[^/]+/(?=[^/?]+))?([^/?]+)', target)
    return (f'{m.group(1)}/{m.group(2)}' if m.group(1) else m.group(2), m.group(3)) if m else None


def accepted_list(path):
    """[key pattern, path pattern, reason, times matched, is it a gap]"""
    out = []
    for line in open(path):
        if line.strip() and not line.startswith('#'):
            gap, line = line.startswith('?'), line.lstrip('? ')
            key, what, reason = line.strip().split(None, 2)
            out.append([key, what, reason, 0, gap])
    return out


def accepted(rules, key, what):
    for rule in rules:
        if fnmatch.fnmatchcase(key, rule[0]) and fnmatch.fnmatchcase(what, re.sub(r'\[', '[[]', rule[1])):
            rule[3] += 1
            return True
    return False


def main():
    binary, data = sys.argv[1:3]
    chosen = sys.argv[3:]
    wire = os.path.join(data, 'k8s-wire')
    if not os.path.isdir(wire):
        print('no recordings: skipped')
        return 77
    rules = accepted_list(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'accepted.txt'))
    files = [f for f in os.listdir(wire) if re.match(r'\d\d-', f)]
    # 15 made the namespace and was recorded first.
    files.sort(key=lambda f: '00' if f.startswith('15') else f)
    same = differ = with_accepted = 0
    skipped = {}
    with tempfile.TemporaryDirectory() as tmp:
        server = Server(binary, tmp)
        session = Session(server, unserved_kinds(server, data))
        try:
            for x in (x for f in files for x in sections(os.path.join(wire, f))):
                kind = kind_of(x.target)
                if kind in session.unserved:
                    skipped.setdefault('%s (%s)' % (kind[1], kind[0]), []).append(x.key)
                    continue
                problems = session.play(x)
                if 'restarted' in x.note:
                    if server.stop() != 0:
                        print('the server ended badly')
                        differ += 1
                    server.start()
                    newest = json.loads(server.call('GET', NS + '/configmaps?limit=1', {})[2])['metadata']['resourceVersion']
                    session.newest = int(newest)
                if chosen and not any(x.key == c or (len(c) == 2 and x.key.startswith(c)) for c in chosen):
                    continue
                left = [p for p in problems if not accepted(rules, x.key, p[0])]
                same += not problems
                with_accepted += bool(problems) and not left
                differ += bool(left)
                for what, text in left[:12]:
                    print(f'{x.key} {x.method} {x.target}: {what}: {text}')
        finally:
            ended = server.stop()
    if ended != 0:
        print(f'the server ended with {ended}')
        differ += 1
    whole = {k for k in session.unserved if '/' not in k[1]}
    for kind in sorted('%s (%s)' % (plural, gv) for gv, plural in session.unserved
                       if '/' not in plural or (gv, plural.split('/')[0]) not in whole):
        print(f'not served here: {kind}' + (f': {", ".join(skipped[kind])}' if kind in skipped else ''))
    stale = [] if chosen else [r for r in rules if not r[3]]
    for key, what, *_ in stale:
        print(f'accepted.txt: "{key} {what}" accepts nothing any more: take it out')
    stale = [r for r in stale if not r[4]]
    print(f'{same} the same, {with_accepted} with accepted differences, {differ} differ, {sum(map(len, skipped.values()))} of kinds not served')
    return 1 if differ or stale else 0


if __name__ == '__main__':
    sys.exit(main())
