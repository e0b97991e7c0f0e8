#!/usr/bin/env python3
"""Discovery and OpenAPI documents of test-apiserver against those of a real API server, for the kinds that both serve.

documents.py SERVER-BINARY DATA-DIR: every member of every resource in /api/v1 and /apis/<group>/<version>, plain and aggregated; /version;
the paths of OpenAPI v3 with their methods. Kinds and subresources that are not served here are named, not compared.
"""
import fnmatch, json, os, re, sys, tempfile
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from replay import Server, diff

AGGREGATED = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList'
# (where, pattern of the path) → why it may differ. A line that matches nothing fails.
ACCEPTED = {
    ('apiextensions.k8s.io/v1:customresourcedefinitions', '.storageVersionHash'): 'the recorded server stores another version of them',
    ('version', '.git*'): 'our own version',
    ('version', '.buildDate'): 'a build is the same whenever it is made',
    ('version', '.compiler'): 'not Go',
    ('version', '.goVersion'): 'not Go',
}
# What is missing still; a line that matches nothing is only reported.
GAPS = {
    ('openapi api/v1', '*/{name}/*'): 'paths of subresources other than status and scale',
}


def get(server, path, accept='application/json'):
    status, _, data = server.call('GET', path, {'Accept': accept})
    return json.loads(data) if status == 200 else None


def by(items, key):
    return {i[key]: i for i in items}


def compare(name, want, got, out):
    out += [(name, path, text) for path, text in diff(want, got)]


def resources(server, data, out, absent):
    for f in sorted(os.listdir(data)):
        m = re.fullmatch(r'resources-(?:api_|apis_(.+)_)(v\w+)\.json', f)
        if not m:
            continue
        gv = f'{m.group(1)}/{m.group(2)}' if m.group(1) else m.group(2)
        want, got = json.load(open(os.path.join(data, f))), get(server, f'/apis/{gv}' if m.group(1) else f'/api/{gv}')
        theirs, ours = by(want['resources'], 'name'), by(got['resources'], 'name') if got else {}
        absent += [f'{n} ({gv})' for n in theirs if n not in ours]
        for n in theirs.keys() & ours.keys():
            compare(f'{gv}:{n}', theirs[n], ours[n], out)
        out += [(f'{gv}:{n}', '', 'is not served by the other') for n in ours if n not in theirs]


def aggregated(server, data, out):
    for path, f in (('/api', 'api-aggregated.json'), ('/apis', 'apis-aggregated.json')):
        want, got = json.load(open(os.path.join(data, f))), get(server, path, AGGREGATED)
        flat = lambda doc: {(g['metadata'].get('name', ''), v['version'], r['resource']): r
                            for g in doc['items'] for v in g['versions'] for r in v['resources']}
        theirs, ours = flat(want), flat(got)
        compare(f'aggregated {path}', {k: v for k, v in want.items() if k != 'items'}, {k: v for k, v in got.items() if k != 'items'}, out)
        for k in theirs.keys() & ours.keys():
            names = {s['subresource'] for s in ours[k].get('subresources', [])}
            kept = dict(theirs[k])
            if 'subresources' in kept:
                kept['subresources'] = [s for s in kept['subresources'] if s['subresource'] in names]
                if not kept['subresources']:
                    del kept['subresources']
            compare('aggregated ' + '/'.join(k), kept, ours[k], out)


def methods(item):
    return sorted(k for k in item if k in ('get', 'put', 'post', 'delete', 'patch', 'head', 'options'))


def openapi(server, data, out, absent):
    index = get(server, '/openapi/v3')['paths']
    missing = {a.split(' ')[0] for a in absent}
    for f in sorted(os.listdir(data)):
        m = re.fullmatch(r'openapi-v3-(apis?_.*)\.json', f)
        where = m and m.group(1).replace('_', '/')
        if not m or where not in index:
            continue
        want, got = json.load(open(os.path.join(data, f)))['paths'], get(server, index[where]['serverRelativeURL'])['paths']
        for path in want:
            part = re.sub(r'/(watch/)?(namespaces/\{namespace\}/)?', '/', path[len('/' + where):]).strip('/').replace('{name}/', '')
            if path.endswith('/') or '/watch/' in path or part in missing or part.split('/')[0] in missing:
                continue  # the group's own document; watches by path, which no client looks up; kinds that are not served
            if path not in got:
                out.append((f'openapi {where}', path, 'the path is missing'))
            elif methods(want[path]) != methods(got[path]):
                out.append((f'openapi {where}', path, f'methods: want {methods(want[path])}, got {methods(got[path])}'))


def main():
    binary, data = sys.argv[1], os.path.join(sys.argv[2], 'k8s-openapi')
    if not os.path.isdir(data):
        print('no documents: skipped')
        return 77
    out, absent = [], []
    with tempfile.TemporaryDirectory() as tmp:
        server = Server(binary, tmp)
        try:
            resources(server, data, out, absent)
            aggregated(server, data, out)
            openapi(server, data, out, absent)
            compare('version', json.load(open(os.path.join(data, 'version.json'))), get(server, '/version'), out)
        finally:
            server.stop()
    used = set()
    failed = 0
    for where, path, text in out:
        rule = next((r for r in ACCEPTED | GAPS if fnmatch.fnmatchcase(where, r[0]) and fnmatch.fnmatchcase(path, re.sub(r'\[', '[[]', r[1]))), None)
        if rule:
            used.add(rule)
        else:
            failed += 1
            print(f'{where} {path}: {text}')
    for rule in ACCEPTED.keys() - used:
        failed += 1
        print(f'accepted, but no difference any more: {rule}')
    for rule in GAPS.keys() - used:
        print(f'a gap that is closed: {rule}')
    print('not served here: ' + ', '.join(absent))
    print(f'{failed} differences, {len(out)} in all')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
