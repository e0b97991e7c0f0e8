#!/usr/bin/env python3
"""API machinery that the recordings do not show, tried against test-apiserver: reads, watches, patches, apply, deletion, forms.

machinery.py SERVER-BINARY [NAME…]: runs the cases (functions below that are named after what they say), prints what fails.
"""
import gzip, json, os, socket, sys, tempfile, threading, time, traceback
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from replay import Server, message

NS = '/api/v1/namespaces/default'
MAPS = NS + '/configmaps'
CASES = []
MERGE, STRATEGIC, JSONPATCH, APPLY = ('application/%s' % k for k in (
    'merge-patch+json', 'strategic-merge-patch+json', 'json-patch+json', 'apply-patch+yaml'))


def case(f):
    CASES.append(f)
    return f


class Api:
    def __init__(self, server):
        self.server = server

    def raw(self, method, path, body=None, kind='application/json', **headers):
        headers = {k.replace('_', '-'): v for k, v in headers.items()}
        if body is not None:
            headers['Content-Type'] = kind
        data = b'' if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.server.call(method, path, headers, data)

    def do(self, method, path, body=None, kind='application/json', want=None, **headers):
        status, _, data = self.raw(method, path, body, kind, **headers)
        value = json.loads(data) if data[:1] == b'{' else data
        if want is None and status >= 300 or want is not None and status != want:
            raise AssertionError(f'{method} {path}: {status}, want {want or "success"}: {data[:500]}')
        return value

    def get(self, path, **k): return self.do('GET', path, **k)
    def post(self, path, body, **k): return self.do('POST', path, body, **k)
    def put(self, path, body, **k): return self.do('PUT', path, body, **k)
    def patch(self, path, body, kind=MERGE, **k): return self.do('PATCH', path, body, kind, **k)
    def delete(self, path, body=None, **k): return self.do('DELETE', path, body, **k)

    def watch(self, path, **headers):
        """All events until the server ends the watch."""
        status, _, data = self.raw('GET', path, **headers)
        assert status == 200, (status, data)
        return [json.loads(line) for line in data.decode().split('\n') if line]


def cm(name, data=None, **meta):
    return {'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': name, **meta}, 'data': data or {'k': 'v'}}


def pod(name, **spec):
    return {'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': name, 'labels': {'app': name}},
            'spec': {'containers': [{'name': 'c', 'image': 'img'}], **spec}}


def eq(got, want, what=''):
    if got != want:
        raise AssertionError(f'{what}: got {json.dumps(got)[:900]}, want {json.dumps(want)[:900]}')


def has(text, *parts):
    for p in parts:
        if p not in text:
            raise AssertionError(f'{p!r} is not in {text[:900]!r}')


def names(doc):
    return [o['metadata']['name'] for o in doc['items']]


def owners(o):
    return {(m['manager'], m['operation'], m.get('subresource', '')): m['fieldsV1'] for m in o['metadata'].get('managedFields', [])}


def crd(api, plural, schema, **version):
    group = 'm.example.com'
    kind = plural[:-1].capitalize()
    api.post('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
        'apiVersion': 'apiextensions.k8s.io/v1', 'kind': 'CustomResourceDefinition', 'metadata': {'name': f'{plural}.{group}'},
        'spec': {'group': group, 'scope': 'Namespaced', 'names': {'plural': plural, 'kind': kind},
                 'versions': [{'name': 'v1', 'served': True, 'storage': True, 'schema': {'openAPIV3Schema': schema}, **version}]}})
    base = f'/apis/{group}/v1/namespaces/default/{plural}'
    for _ in range(50):
        if api.raw('GET', base)[0] == 200:
            break
        time.sleep(0.1)
    return base, lambda name, **rest: {'apiVersion': f'{group}/v1', 'kind': kind, 'metadata': {'name': name}, **rest}


# Names.

@case
def generated_names_are_made_and_their_length_is_bounded(api):
    made = [api.post(MAPS, {'metadata': {'generateName': 'gen-'}})['metadata'] for _ in range(3)]
    eq(len({m['name'] for m in made}), 3)
    eq(made[0]['generateName'], 'gen-')
    long = api.post(MAPS, {'metadata': {'generateName': 'g' * 240}}, want=201)['metadata']['name']
    eq(len(long), 63)
    api.post(MAPS, cm(made[0]['name']), want=409)


# Reads.

@case
def pages_of_a_list_are_one_state(api):
    for i in range(7):
        api.post(MAPS, cm(f'page-{i}', labels={'set': 'page'}))
    first = api.get(MAPS + '?limit=3&labelSelector=set%3Dpage')
    api.post(MAPS, cm('page-35', labels={'set': 'page'}))
    api.delete(MAPS + '/page-4')
    seen, token = names(first), first['metadata']['continue']
    while token:
        page = api.get(MAPS + f'?limit=3&labelSelector=set%3Dpage&continue={token}')
        eq(page['metadata']['resourceVersion'], first['metadata']['resourceVersion'])
        seen += names(page)
        token = page['metadata'].get('continue')
    eq(seen, [f'page-{i}' for i in range(7)])
    exact = api.get(MAPS + f'?labelSelector=set%3Dpage&resourceVersionMatch=Exact&resourceVersion={first["metadata"]["resourceVersion"]}')
    eq(names(exact), [f'page-{i}' for i in range(7)])
    newer = api.get(MAPS + f'?labelSelector=set%3Dpage&resourceVersionMatch=NotOlderThan&resourceVersion={first["metadata"]["resourceVersion"]}')
    eq('page-35' in names(newer) and 'page-4' not in names(newer), True)


@case
def selectors_choose(api):
    for i, labels in enumerate(({'a': '1', 'b': 'x'}, {'a': '2'}, {'b': 'y'}, {})):
        api.post(MAPS, cm(f'sel-{i}', labels={'sel': '1', **labels}))
    for selector, want in (('a', [0, 1]), ('!a', [2, 3]), ('a=1', [0]), ('a==1', [0]), ('a!=1', [1, 2, 3]), ('a in (1,2)', [0, 1]),
                           ('a notin (1)', [1, 2, 3]), ('a in (1,2),b', [0]), ('a in ()', []), ('a>1', [1]), ('a<2', [0]),
                           ('b in (x,y),!a', [2])):
        got = api.get(MAPS + '?labelSelector=' + f'sel=1,{selector}'.replace(' ', '%20').replace('=', '%3D').replace('>', '%3E').replace('<', '%3C'))
        eq(names(got), [f'sel-{i}' for i in want], selector)
    for bad in ('a%3D%3D%3Db', 'a%20in%201', '%3D1', 'a%3E%20x', '-x-'):
        api.get(MAPS + f'?labelSelector={bad}', want=400)
    eq(names(api.get(MAPS + '?fieldSelector=metadata.name%3Dsel-1')), ['sel-1'])
    eq('sel-1' not in names(api.get(MAPS + '?fieldSelector=metadata.name!%3Dsel-1')), True)
    eq(names(api.get('/api/v1/configmaps?fieldSelector=metadata.name%3Dsel-1,metadata.namespace%3Ddefault')), ['sel-1'])


@case
def fields_that_a_patch_says_twice_are_told(api):
    api.post(MAPS, cm('twice'))
    body = b'{"data":{"a":"1","a":"2"}}'
    for kind in (MERGE, STRATEGIC):
        bad = api.do('PATCH', MAPS + '/twice?fieldValidation=Strict', body, kind, want=422)
        has(bad['message'], 'strict decoding error: duplicate field "data.a"')
        status, headers, _ = api.raw('PATCH', MAPS + '/twice', body, kind)
        eq((status, headers.get('warning')), (200, ['299 - "duplicate field \\"data.a\\""']))
        status, headers, data = api.raw('PATCH', MAPS + '/twice?fieldValidation=Ignore', body, kind)
        eq((status, headers.get('warning'), json.loads(data)['data']['a']), (200, None, '2'))


@case
def deletecollection_keeps_to_its_limit(api):
    for i in range(4):
        api.post(MAPS, cm(f'dl-{i}', labels={'dl': 'y'}))
    gone = api.delete(MAPS + '?labelSelector=dl&limit=3')
    eq(names(gone), ['dl-0', 'dl-1', 'dl-2'])
    eq(names(api.get(MAPS + '?labelSelector=dl')), ['dl-3'])
    api.delete(MAPS + '?labelSelector=dl&limit=x', want=400)
    eq(names(api.delete(MAPS + '?labelSelector=dl&limit=0')), ['dl-3'])


@case
def pods_nodes_secrets_and_namespaces_are_selected_by_their_fields(api):
    api.post(NS + '/pods', pod('fs-1', nodeName='n1', restartPolicy='Never'))
    api.post(NS + '/pods', pod('fs-2'))
    pods = lambda s: [n for n in names(api.get(NS + '/pods?fieldSelector=' + s)) if n.startswith('fs-')]
    eq(pods('spec.nodeName%3Dn1'), ['fs-1'])
    eq(pods('spec.nodeName%3D'), ['fs-2'])
    eq(pods('status.phase%3DPending,spec.restartPolicy%3DNever'), ['fs-1'])
    eq(pods('status.phase!%3DPending'), [])
    eq(pods('spec.serviceAccountName%3Ddefault'), ['fs-1', 'fs-2'])
    api.get(NS + '/pods?fieldSelector=spec.containers%3Dx', want=400)
    api.post(NS + '/secrets', {'metadata': {'name': 'fs'}, 'type': 'example.com/t'})
    eq(names(api.get(NS + '/secrets?fieldSelector=type%3Dexample.com/t')), ['fs'])
    eq('default' in names(api.get('/api/v1/namespaces?fieldSelector=status.phase%3DActive')), True)
    api.post('/api/v1/nodes', {'metadata': {'name': 'fs-n'}, 'spec': {'unschedulable': True}})
    eq(names(api.get('/api/v1/nodes?fieldSelector=spec.unschedulable%3Dtrue')), ['fs-n'])
    api.post(NS + '/events', {'metadata': {'name': 'fs-e'}, 'involvedObject': {'kind': 'Pod', 'name': 'fs-1', 'namespace': 'default'},
                              'reason': 'R', 'type': 'Warning', 'source': {'component': 'comp'}})
    for s in ('involvedObject.kind%3DPod,involvedObject.name%3Dfs-1', 'reason%3DR,type%3DWarning', 'source%3Dcomp'):
        eq('fs-e' in names(api.get(NS + '/events?fieldSelector=' + s)), True, s)


# Watches.

@case
def a_watch_begins_where_it_is_told(api):
    api.post(MAPS, cm('w-0', labels={'w': '1'}))
    start = api.get(MAPS)['metadata']['resourceVersion']
    api.post(MAPS, cm('w-1', labels={'w': '1'}))
    api.patch(MAPS + '/w-1', {'data': {'a': 'b'}})
    api.delete(MAPS + '/w-1')
    q = MAPS + '?watch=1&timeoutSeconds=1&labelSelector=w%3D1'
    eq([e['type'] for e in api.watch(q + f'&resourceVersion={start}')], ['ADDED', 'MODIFIED', 'DELETED'])
    eq([(e['type'], e['object']['metadata']['name']) for e in api.watch(q)], [('ADDED', 'w-0')])
    eq([(e['type'], e['object']['metadata']['name']) for e in api.watch(q + '&resourceVersion=0')], [('ADDED', 'w-0')])
    eq([e['type'] for e in api.watch(q + f'&resourceVersion={api.get(MAPS)["metadata"]["resourceVersion"]}')], [])
    last = api.watch(q + '&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true')
    eq([e['type'] for e in last[:2]], ['ADDED', 'BOOKMARK'])
    eq(last[1]['object']['metadata']['annotations'], {'k8s.io/initial-events-end': 'true'})
    eq([e['type'] for e in api.watch(q + '&sendInitialEvents=false&resourceVersionMatch=NotOlderThan')], [])
    api.get(q + '&resourceVersionMatch=NotOlderThan', want=422)
    api.get(q + '&sendInitialEvents=true', want=422)


@case
def a_deleted_event_has_the_version_of_the_deletion(api):
    rv = int(api.post(MAPS, cm('dv'))['metadata']['resourceVersion'])
    api.delete(MAPS + '/dv')
    e = [e for e in api.watch(MAPS + f'?watch=1&timeoutSeconds=1&resourceVersion={rv}') if e['type'] == 'DELETED'][0]
    eq(int(e['object']['metadata']['resourceVersion']) > rv, True)


@case
def old_watch_paths_and_single_names_work(api):
    api.post(MAPS, cm('ow'))
    eq([e['object']['metadata']['name'] for e in api.watch('/api/v1/watch/namespaces/default/configmaps/ow?timeoutSeconds=1')], ['ow'])
    eq('ow' in [e['object']['metadata']['name'] for e in api.watch('/api/v1/watch/configmaps?timeoutSeconds=1')], True)
    eq([e['object']['metadata']['name'] for e in api.watch(MAPS + '/ow?watch=true&timeoutSeconds=1')], ['ow'])


@case
def watches_speak_protobuf(api):
    api.post(MAPS, cm('pb', labels={'pb': '1'}))
    proto = 'application/vnd.kubernetes.protobuf'
    status, headers, data = api.raw('GET', MAPS + '?watch=1&timeoutSeconds=1&labelSelector=pb%3D1', Accept=proto)
    eq((status, headers['content-type']), (200, [proto + ';stream=watch']))
    n = int.from_bytes(data[:4], 'big')
    eq(n, len(data) - 4)
    event = message(data[4:])
    eq(event[0][1].decode(), 'ADDED')
    status, headers, data = api.raw('GET', MAPS + '?labelSelector=pb%3D1', Accept=proto + ',application/json')
    eq((status, headers['content-type'], data[:4]), (200, [proto], b'k8s\0'))
    eq(message(data[4:])[0][1], [(1, b'v1'), (2, b'ConfigMapList')] and message(data[4:])[0][1])
    status, headers, data = api.raw('GET', MAPS + '/none', Accept=proto)
    eq((status, headers['content-type'], data[:4]), (404, [proto], b'k8s\0'))
    status, headers, _ = api.raw('GET', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
                                 Accept=proto + ';as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,' + proto)
    eq((status, headers['content-type']), (200, [proto]))


# Writes.

@case
def stale_writes_are_refused_and_no_change_is_no_write(api):
    o = api.post(MAPS, cm('occ'))
    api.patch(MAPS + '/occ', {'data': {'k': '2'}})
    api.put(MAPS + '/occ', {**o, 'data': {'k': '3'}}, want=409)
    api.patch(MAPS + '/occ', {'metadata': {'resourceVersion': o['metadata']['resourceVersion']}, 'data': {'k': '3'}}, want=409)
    now = api.get(MAPS + '/occ')
    same = api.put(MAPS + '/occ', now)
    eq(same['metadata']['resourceVersion'], now['metadata']['resourceVersion'])
    eq(api.patch(MAPS + '/occ', {'data': {'k': '2'}})['metadata']['resourceVersion'], now['metadata']['resourceVersion'])
    api.put(MAPS + '/occ', {**now, 'metadata': {**now['metadata'], 'uid': '1'}}, want=409)
    unconditional = dict(now, metadata={'name': 'occ'}, data={'k': '9'})
    eq(api.put(MAPS + '/occ', unconditional)['data'], {'k': '9'})
    api.put(MAPS + '/absent', cm('absent'), want=404)
    api.put(MAPS + '/occ', cm('other'), want=400)
    has(json.dumps(api.post(MAPS, cm('x', namespace='kube-system'), want=400)), 'does not match the namespace sent on the request')


@case
def a_dry_run_changes_nothing(api):
    api.post(MAPS, cm('dry'))
    before = api.get(MAPS + '/dry')
    api.post(MAPS + '?dryRun=All', cm('dry-2'), want=201)
    api.put(MAPS + '/dry?dryRun=All', cm('dry', {'x': 'y'}))
    eq(api.patch(MAPS + '/dry?dryRun=All', {'data': {'x': 'y'}})['data'], {'k': 'v', 'x': 'y'})
    api.do('PATCH', MAPS + '/dry?dryRun=All&fieldManager=m&force=true', cm('dry', {'k': 'z'}), APPLY)
    api.delete(MAPS + '/dry?dryRun=All')
    api.delete(MAPS + '/dry', {'kind': 'DeleteOptions', 'apiVersion': 'v1', 'dryRun': ['All']})
    api.delete(MAPS + '?dryRun=All')
    eq(api.get(MAPS + '/dry'), before)
    api.get(MAPS + '/dry-2', want=404)
    api.post(MAPS + '?dryRun=None', cm('d'), want=422)


@case
def unknown_and_duplicate_fields_warn_fail_or_pass(api):
    body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"fv","namex":"y"},"data":{"a":"1","a":"2"},"extra":{"b":1}}'
    status, headers, _ = api.raw('POST', MAPS + '?dryRun=All', body)
    eq(status, 201)
    eq(sorted(headers.get('warning', [])), ['299 - "duplicate field \\"data.a\\""', '299 - "unknown field \\"extra\\""',
                                            '299 - "unknown field \\"metadata.namex\\""'])
    status, headers, _ = api.raw('POST', MAPS + '?dryRun=All&fieldValidation=Ignore', body)
    eq((status, headers.get('warning')), (201, None))
    has(json.dumps(api.post(MAPS + '?fieldValidation=Strict', body, want=400)), 'strict decoding error', 'unknown field', 'duplicate field')
    has(json.dumps(api.post(MAPS + '?fieldValidation=Loose', cm('fv'), want=422)), 'fieldValidation')
    api.post(MAPS, cm('fv-p'))
    has(json.dumps(api.patch(MAPS + '/fv-p?fieldValidation=Strict', {'spec': {'x': 1}}, want=422)), 'unknown field')


@case
def json_patches_test_move_and_fail_as_upstream(api):
    api.post(MAPS, cm('jp', {'a': '1', 'b': '2'}))
    p = lambda *ops, **k: api.patch(MAPS + '/jp', list(ops), JSONPATCH, **k)
    eq(p({'op': 'test', 'path': '/data/a', 'value': '1'}, {'op': 'replace', 'path': '/data/a', 'value': '9'})['data'], {'a': '9', 'b': '2'})
    p({'op': 'test', 'path': '/data/a', 'value': '1'}, {'op': 'remove', 'path': '/data/b'}, want=422)
    eq(p({'op': 'move', 'from': '/data/b', 'path': '/data/c'}, {'op': 'copy', 'from': '/data/c', 'path': '/data/d'})['data'],
       {'a': '9', 'c': '2', 'd': '2'})
    eq(p({'op': 'add', 'path': '/metadata/annotations', 'value': {}}, {'op': 'add', 'path': '/metadata/annotations/x.com~1y', 'value': '1'})
       ['metadata']['annotations'], {'x.com/y': '1'})
    p({'op': 'remove', 'path': '/data/none'}, want=422)
    p({'op': 'odd', 'path': '/data/a'}, want=422)
    p(*[{'op': 'test', 'path': '/data/a', 'value': '9'}] * 10001, want=413)


@case
def strategic_patches_know_their_directives(api):
    two = pod('smp')
    two['spec']['containers'] = [{'name': 'a', 'image': 'a', 'env': [{'name': 'X', 'value': '1'}, {'name': 'Y', 'value': '2'}]},
                                 {'name': 'b', 'image': 'b'}]
    two['spec']['tolerations'] = [{'key': 'k', 'operator': 'Exists'}]
    two['metadata']['finalizers'] = ['a.com/1', 'b.com/2']
    api.post(NS + '/pods', two)
    p = lambda body, **k: api.patch(NS + '/pods/smp', body, STRATEGIC, **k)
    eq([c['image'] for c in p({'spec': {'containers': [{'name': 'b', 'image': 'b2'}]}})['spec']['containers']], ['a', 'b2'])
    eq(p({'metadata': {'labels': {'x': 'y'}}})['metadata']['labels'], {'app': 'smp', 'x': 'y'})
    eq(p({'metadata': {'labels': {'$patch': 'replace', 'only': '1'}}})['metadata']['labels'], {'only': '1'})
    eq(p({'metadata': {'$deleteFromPrimitiveList/finalizers': ['a.com/1']}})['metadata']['finalizers'], ['b.com/2'])
    eq(sorted(p({'metadata': {'finalizers': ['c.com/3']}})['metadata']['finalizers']), ['b.com/2', 'c.com/3'])
    eq(p({'metadata': {'$setElementOrder/finalizers': ['c.com/3', 'b.com/2'], 'finalizers': ['c.com/3']}})['metadata']['finalizers'],
       ['c.com/3', 'b.com/2'])
    p({'metadata': {'labels': {'$patch': 'odd'}}}, want=400)
    p({'metadata': {'finalizers': None}})


@case
def patches_of_an_unknown_type_are_415_and_of_a_bad_form_400(api):
    api.post(MAPS, cm('pt'))
    has(json.dumps(api.do('PATCH', MAPS + '/pt', {}, 'application/json', want=415)), '415: Unsupported Media Type')
    api.do('PATCH', MAPS + '/pt', b'{', MERGE, want=400)
    api.do('PATCH', MAPS + '/pt', b'{}', JSONPATCH, want=400)
    api.patch(MAPS + '/pt', {'metadata': {'name': 'other'}}, want=400)
    api.do('PATCH', MAPS + '/none', {}, MERGE, want=404)


# Server-side apply.

@case
def apply_takes_shares_and_gives_up_fields(api):
    url = MAPS + '/ssa'
    a = lambda who, data, force='', **k: api.do('PATCH', f'{url}?fieldManager={who}{force}', cm('ssa', data), APPLY, **k)
    a('alice', {'a': '1', 'b': '2'}, want=201)
    has(json.dumps(a('bob', {'a': '2'}, want=409)), 'conflict with \\"alice\\"', '.data.a')
    a('bob', {'a': '1'})
    eq(sorted(k[0] for k in owners(api.get(url))), ['alice', 'bob'])
    a('alice', {'b': '2'})
    eq(api.get(url)['data'], {'a': '1', 'b': '2'})  # bob still has a
    eq(a('bob', None)['data'], {'b': '2', 'k': 'v'})
    eq(a('bob', {'b': '3'}, '&force=true')['data'], {'b': '3'})
    eq(owners(api.get(url)).get(('alice', 'Apply', '')), None)
    api.do('PATCH', url + '?fieldManager=bob', {'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': 'ssa'}}, APPLY)
    eq(api.get(url).get('data'), None)  # an empty apply gives everything up


@case
def apply_meets_updates(api):
    url = MAPS + '/ssu'
    api.server.call('POST', MAPS, {'Content-Type': 'application/json', 'User-Agent': 'kubectl/1'}, json.dumps(cm('ssu', {'a': '1'})).encode())
    text = json.dumps(api.do('PATCH', url + '?fieldManager=x', cm('ssu', {'a': '2'}), APPLY, want=409))
    has(text, 'conflict with \\"kubectl\\" using v1')
    api.do('PATCH', url + '?fieldManager=x&force=true', cm('ssu', {'a': '2'}), APPLY)
    o = owners(api.get(url))
    eq(o[('x', 'Apply', '')], {'f:data': {'f:a': {}}})
    eq(('kubectl', 'Update', '') in o and 'f:a' in o[('kubectl', 'Update', '')].get('f:data', {}), False)


@case
def apply_merges_lists_by_their_keys(api):
    schema = {'type': 'object', 'properties': {'spec': {'type': 'object', 'properties': {
        'ports': {'type': 'array', 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['port', 'protocol'],
                  'items': {'type': 'object', 'required': ['port'], 'properties': {
                      'port': {'type': 'integer'}, 'protocol': {'type': 'string', 'default': 'TCP'}, 'name': {'type': 'string'},
                      'tags': {'type': 'array', 'x-kubernetes-list-type': 'set', 'items': {'type': 'string'}}}}},
        'atoms': {'type': 'array', 'items': {'type': 'string'}},
        'whole': {'type': 'object', 'x-kubernetes-map-type': 'atomic', 'additionalProperties': {'type': 'string'}}}}}}
    base, make = crd(api, 'lists', schema)
    a = lambda who, spec, force='', **k: api.do('PATCH', f'{base}/l?fieldManager={who}{force}', make('l', spec=spec), APPLY, **k)
    a('alice', {'ports': [{'port': 80, 'name': 'web', 'tags': ['a']}], 'atoms': ['x'], 'whole': {'a': '1'}}, want=201)
    o = a('bob', {'ports': [{'port': 80, 'protocol': 'UDP', 'name': 'dns'}, {'port': 80, 'protocol': 'TCP', 'tags': ['b']}]})
    eq([(p['port'], p['protocol'], p['name']) for p in o['spec']['ports']], [(80, 'TCP', 'web'), (80, 'UDP', 'dns')])
    eq(o['spec']['ports'][0]['tags'], ['a', 'b'])
    has(json.dumps(a('bob', {'atoms': ['y']}, want=409)), '.spec.atoms')
    has(json.dumps(a('bob', {'whole': {'b': '2'}}, want=409)), '.spec.whole')
    has(json.dumps(a('bob', {'ports': [{'port': 80, 'name': 'x'}]}, want=409)), '.spec.ports[port=80,protocol=\\"TCP\\"].name')
    o = a('alice', {'atoms': ['x']})
    eq([(p['port'], p['protocol'], p.get('tags')) for p in o['spec']['ports']], [(80, 'TCP', ['b']), (80, 'UDP', None)])


@case
def apply_on_status_has_owners_of_its_own(api):
    api.post(NS + '/pods', pod('sst'))
    body = {'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': 'sst'}, 'status': {'phase': 'Running'}}
    o = api.do('PATCH', NS + '/pods/sst/status?fieldManager=agent', body, APPLY)
    eq(o['status']['phase'], 'Running')
    eq(owners(o)[('agent', 'Apply', 'status')], {'f:status': {'f:phase': {}}})


@case
def client_side_apply_migrates(api):
    url = MAPS + '/csa'
    last = json.dumps(cm('csa', {'a': '1', 'gone': '1'}))
    api.server.call('POST', MAPS + '?fieldManager=kubectl-client-side-apply', {'Content-Type': 'application/json'},
                    json.dumps(cm('csa', {'a': '1', 'gone': '1'}, annotations={'kubectl.kubernetes.io/last-applied-configuration': last})).encode())
    o = api.do('PATCH', url + '?fieldManager=kubectl', cm('csa', {'a': '2'}), APPLY, want=200)
    eq(o['data'].get('a'), '2')


# Deletion.

@case
def deletion_keeps_its_conditions(api):
    o = api.post(MAPS, cm('del'))
    api.delete(MAPS + '/del', {'preconditions': {'uid': 'x'}}, want=409)
    api.delete(MAPS + '/del', {'preconditions': {'resourceVersion': '1'}}, want=409)
    eq(api.delete(MAPS + '/del', {'preconditions': {'uid': o['metadata']['uid']}})['status'], 'Success')
    api.post(MAPS, cm('fin', finalizers=['x.com/hold']))
    eq(bool(api.delete(MAPS + '/fin')['metadata']['deletionTimestamp']), True)
    api.patch(MAPS + '/fin', {'metadata': {'finalizers': ['x.com/hold', 'y.com/more']}}, want=422)
    api.patch(MAPS + '/fin', {'metadata': {'finalizers': None}})
    api.get(MAPS + '/fin', want=404)


@case
def collections_go_by_selector(api):
    for i in range(4):
        api.post(MAPS, cm(f'dc-{i}', labels={'dc': str(i % 2)}))
    eq(names(api.delete(MAPS + '?labelSelector=dc%3D1')), ['dc-1', 'dc-3'])
    eq(names(api.get(MAPS + '?labelSelector=dc')), ['dc-0', 'dc-2'])
    api.delete(MAPS + '?fieldSelector=metadata.name%3Ddc-0')
    eq(names(api.get(MAPS + '?labelSelector=dc')), ['dc-2'])


def child_of(o, name, block=False, ns_kind='ConfigMap'):
    return cm(name, ownerReferences=[{'apiVersion': 'v1', 'kind': ns_kind, 'name': o['metadata']['name'], 'uid': o['metadata']['uid'],
                                      'controller': True, 'blockOwnerDeletion': block}])


def until(f, what):
    for _ in range(60):
        if f():
            return
        time.sleep(0.1)
    raise AssertionError('never: ' + what)


@case
def dependents_go_stay_or_block(api):
    gone = lambda n: api.raw('GET', MAPS + '/' + n)[0] == 404
    for policy in ('Background', 'Foreground', 'Orphan'):
        p = policy.lower()
        o = api.post(MAPS, cm('own-' + p))
        api.post(MAPS, child_of(o, 'dep-' + p, True))
        time.sleep(0.2)
        got = api.delete(MAPS + '/own-' + p, {'propagationPolicy': policy})
        if policy == 'Foreground':
            eq(got['metadata']['finalizers'], ['foregroundDeletion'])
        until(lambda: gone('own-' + p), policy + ': owner')
        if policy == 'Orphan':
            until(lambda: not api.get(MAPS + '/dep-orphan')['metadata'].get('ownerReferences'), 'reference is taken out')
        else:
            until(lambda: gone('dep-' + p), policy + ': dependent')
    o = api.post(MAPS, cm('own-od'))
    api.post(MAPS, child_of(o, 'dep-od'))
    api.delete(MAPS + '/own-od?orphanDependents=true')
    until(lambda: gone('own-od') and not api.get(MAPS + '/dep-od')['metadata'].get('ownerReferences'), 'orphanDependents')


@case
def an_owner_that_is_not_there_takes_its_dependent_along(api):
    ghost = {'metadata': {'name': 'ghost', 'uid': '00000000-0000-4000-8000-000000000000'}}
    api.post(MAPS, child_of(ghost, 'of-ghost'))
    until(lambda: api.raw('GET', MAPS + '/of-ghost')[0] == 404, 'dependent of nobody goes')


@case
def an_owner_of_another_namespace_is_told(api):
    o = api.post('/api/v1/namespaces/kube-system/configmaps', cm('far'))
    api.post(MAPS, child_of(o, 'near'))
    until(lambda: any(e['reason'] == 'OwnerRefInvalidNamespace' for e in api.get(NS + '/events')['items']), 'Event OwnerRefInvalidNamespace')


@case
def namespaces_empty_themselves(api):
    api.post('/api/v1/namespaces', {'metadata': {'name': 'leaving'}})
    api.post('/api/v1/namespaces/leaving/configmaps', cm('held', finalizers=['x.com/y']))
    eq(api.delete('/api/v1/namespaces/leaving')['status']['phase'], 'Terminating')
    has(json.dumps(api.post('/api/v1/namespaces/leaving/configmaps', cm('late'), want=403)), 'is being terminated')
    until(lambda: {c['type']: c['status'] for c in api.get('/api/v1/namespaces/leaving')['status'].get('conditions', [])}
          .get('NamespaceFinalizersRemaining') == 'True', 'condition names the finalizers that remain')
    api.patch('/api/v1/namespaces/leaving/configmaps/held', {'metadata': {'finalizers': None}})
    until(lambda: api.raw('GET', '/api/v1/namespaces/leaving')[0] == 404, 'namespace goes')


# Forms.

@case
def answers_have_the_form_that_was_asked_for(api):
    api.post(MAPS, cm('form'))
    status, headers, data = api.raw('GET', MAPS + '/form', Accept='application/yaml')
    eq((status, headers['content-type'], data[:11]), (200, ['application/yaml'], b'apiVersion:'))
    eq(api.do('POST', MAPS, b'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-yaml}\ndata: {a: "1"}\n', 'application/yaml')['data'], {'a': '1'})
    status, _, data = api.raw('GET', MAPS + '/form', Accept='text/csv')
    eq(status, 406)
    status, headers, data = api.raw('GET', MAPS + '/form', Accept='text/csv;q=1, application/json;q=0.5')
    eq((status, headers['content-type']), (200, ['application/json']))
    status, headers, data = api.raw('GET', MAPS + '/form', Accept='application/json;q=0.1, application/yaml;q=0.9')
    eq(headers['content-type'], ['application/yaml'])
    for form in ('None', 'Metadata', 'Object'):
        row = api.get(MAPS + '?fieldSelector=metadata.name%3Dform&includeObject=' + form, Accept='application/json;as=Table;v=v1;g=meta.k8s.io')['rows'][0]
        eq((row.get('object') or {}).get('kind'), {'None': None, 'Metadata': 'PartialObjectMetadata', 'Object': 'ConfigMap'}[form], form)
    eq(api.get(MAPS, Accept='application/json;as=Table;v=v1beta1;g=meta.k8s.io')['apiVersion'], 'meta.k8s.io/v1beta1')


@case
def large_answers_are_compressed_for_who_takes_it(api):
    api.post(MAPS, cm('big', {'k': 'x' * 200000}))
    status, headers, data = api.raw('GET', MAPS + '/big', Accept_Encoding='gzip')
    eq((status, headers.get('content-encoding')), (200, ['gzip']))
    eq(len(json.loads(gzip.decompress(data))['data']['k']), 200000)
    has(','.join(headers.get('vary', [])), 'Accept-Encoding')
    eq(api.raw('GET', MAPS + '/big')[1].get('content-encoding'), None)
    eq(api.raw('GET', MAPS + '/form', Accept_Encoding='gzip')[1].get('content-encoding'), None)


@case
def odd_methods_parameters_and_bodies_have_their_answer(api):
    status, headers, data = api.raw('HEAD', MAPS)
    eq((status, data), (200, b''))
    api.get(MAPS + '?nonsense=1&pretty=false')
    eq(api.raw('OPTIONS', MAPS)[0] in (404, 405), True)
    api.post(MAPS + '/named', cm('named'), want=405)
    api.delete('/api/v1/configmaps', want=405)
    api.post(MAPS, b'', want=400)
    api.post(MAPS, b'[]', want=400)
    api.post(MAPS, b'{"metadata":{"name":5}}', want=400)
    api.get('/api/v1/nonesuch', want=404)
    api.get('/apis/none.example.com/v1/x', want=404)
    eq(api.raw('POST', MAPS, b'{"data":{"k":"' + b'x' * (4 << 20) + b'"}}')[0], 413)


@case
def scale_and_status_are_doors_of_their_own(api):
    schema = {'type': 'object', 'properties': {
        'spec': {'type': 'object', 'properties': {'replicas': {'type': 'integer'}, 'color': {'type': 'string'}}},
        'status': {'type': 'object', 'properties': {'replicas': {'type': 'integer'}, 'selector': {'type': 'string'}}}}}
    base, make = crd(api, 'things', schema, selectableFields=[{'jsonPath': '.spec.color'}], subresources={'status': {}, 'scale': {
        'specReplicasPath': '.spec.replicas', 'statusReplicasPath': '.status.replicas', 'labelSelectorPath': '.status.selector'}})
    o = api.post(base, make('t', spec={'replicas': 1, 'color': 'red'}, status={'replicas': 7}))
    eq('status' in o, False)
    eq(o['metadata']['generation'], 1)
    o = api.put(base + '/t/status', {**o, 'spec': {'replicas': 9}, 'status': {'replicas': 1, 'selector': 'a=b'}})
    eq((o['spec']['replicas'], o['status']['replicas'], o['metadata']['generation']), (1, 1, 1))
    s = api.get(base + '/t/scale')
    eq((s['kind'], s['spec'], s['status']), ('Scale', {'replicas': 1}, {'replicas': 1, 'selector': 'a=b'}))
    eq(api.put(base + '/t/scale', {**s, 'spec': {'replicas': 3}})['spec'], {'replicas': 3})
    eq(api.patch(base + '/t/scale', {'spec': {'replicas': 4}})['spec'], {'replicas': 4})
    eq(api.patch(base + '/t/scale', [{'op': 'replace', 'path': '/spec/replicas', 'value': 5}], JSONPATCH)['spec'], {'replicas': 5})
    api.put(base + '/t/scale', {**s, 'spec': {'replicas': 3}}, want=409)
    eq(api.get(base + '/t')['metadata']['generation'], 4)
    api.post(base, make('u', spec={'color': 'blue'}))
    eq(names(api.get(base + '?fieldSelector=spec.color%3Dblue')), ['u'])
    api.get(base + '?fieldSelector=spec.replicas%3D5', want=400)
    eq(api.raw('GET', base, Accept='application/vnd.kubernetes.protobuf')[0], 406)
    eq(api.raw('GET', base, Accept='application/vnd.kubernetes.protobuf,application/json')[1]['content-type'], ['application/json'])


# Health and metrics.

@case
def health_names_its_checks(api):
    text = api.get('/livez?verbose').decode()
    has(text, '[+]ping ok', '[+]etcd ok', 'livez check passed')
    has(api.get('/readyz?verbose').decode(), '[+]shutdown ok', 'readyz check passed')
    has(api.get('/readyz?verbose&exclude=etcd').decode(), '[+]etcd excluded: ok')
    eq(api.get('/livez/etcd'), b'ok')
    eq(api.get('/readyz/ping'), b'ok')
    api.get('/livez/nonesuch', want=404)
    eq(api.get('/livez?exclude=nonesuch'), b'ok')


@case
def metrics_are_well_formed_and_have_upstreams_names(api):
    api.get(MAPS)
    types, seen, family = {}, set(), None
    for line in api.get('/metrics').decode().splitlines():
        if line.startswith('# HELP '):
            family = line.split(' ')[2]
            eq(family in types, False, 'two HELP of ' + family)
        elif line.startswith('# TYPE '):
            eq(line.split(' ')[2], family, 'TYPE follows HELP')
            types[family] = line.split(' ')[3]
        else:
            series, value = line.rsplit(' ', 1)
            float(value)
            eq(series in seen, False, 'series twice: ' + series)
            seen.add(series)
            name = series.split('{')[0]
            base = family if types[family] == 'histogram' and name in (family + '_bucket', family + '_sum', family + '_count') else name
            eq(base, family, 'series below its family')
            if types[family] == 'counter':
                eq(name.endswith('_total'), True, 'counter ' + name)
    for name in ('apiserver_request_total', 'apiserver_request_duration_seconds', 'apiserver_current_inflight_requests',
                 'apiserver_longrunning_requests', 'apiserver_watch_events_total', 'apiserver_storage_objects', 'apiserver_resource_objects',
                 'apiserver_storage_size_bytes', 'process_start_time_seconds', 'process_resident_memory_bytes', 'kubernetes_build_info',
                 'process_cpu_seconds_total', 'apiserver_registered_watchers'):
        eq(name in types, True, name)
    one = [s for s in seen if s.startswith('apiserver_request_total{') and 'resource="configmaps"' in s and 'verb="LIST"' in s and 'code="200"' in s]
    for label in ('code="200"', 'component="apiserver"', 'dry_run=""', 'group=""', 'scope="', 'subresource=""', 'version="v1"'):
        has(one[0], label)


def main():
    chosen = sys.argv[2:]
    failed = ran = 0
    with tempfile.TemporaryDirectory() as tmp:
        server = Server(sys.argv[1], tmp)
        try:
            for f in CASES:
                if chosen and f.__name__ not in chosen:
                    continue
                ran += 1
                try:
                    f(Api(server))
                except Exception as e:
                    failed += 1
                    place = [x for x in traceback.extract_tb(e.__traceback__) if x.filename == os.path.abspath(__file__)][-1:]
                    print(f'{f.__name__}: {"line %d: " % place[0].lineno if place else ""}{type(e).__name__}: {e}'[:1500])
        finally:
            if server.stop() != 0:
                print('the server ended badly')
                failed += 1
    print(f'{ran - failed} of {ran} cases pass')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
