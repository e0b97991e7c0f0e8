#!/usr/bin/env python3
"""What the audit log says of requests, and what it does not.

audit.py SERVER-BINARY: starts test-apiserver with a policy and prints a line for each check that fails. Exits with 77 (skipped) where
openssl is absent.
"""
import json, os, re, shutil, subprocess, sys, tempfile, time

import auth
from auth import Server, check

POLICY = '''
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, nonResourceURLs: ['/readyz*', /livez]}
- {level: None, users: [quiet]}
- level: Metadata
  resources: [{group: '', resources: [secrets, serviceaccounts/token]}]
- level: RequestResponse
  omitManagedFields: true
  resources: [{group: '', resources: [configmaps]}]
- level: Request
  verbs: [create, patch]
  userGroups: [dev]
- {level: Metadata, namespaces: [default], omitStages: [ResponseStarted]}
- {level: Metadata, nonResourceURLs: ['*'], omitStages: []}
'''


class Log:
    def __init__(self, server):
        self.path, self.at = os.path.join(server.dir, 'audit.log'), 0

    def take(self, n=1, seconds=5):
        """The next n events, and no more than those a moment later."""
        events = []
        for _ in range(seconds * 50):
            with open(self.path) as f:
                f.seek(self.at)
                text = f.read()
            self.at += len(text[:text.rfind('\n') + 1])
            events += [json.loads(line) for line in text[:text.rfind('\n') + 1].splitlines()]
            if len(events) >= n:
                return events
            time.sleep(0.02)
        return events


def events(s, log):
    cert = s.cert('alice', ['dev'])
    ns = '/api/v1/namespaces/default'
    s.admin('GET', '/readyz')
    s.call('GET', '/livez')
    s.call('GET', ns, cert=s.cert('quiet'))
    code, body, headers = s.admin('POST', f'{ns}/configmaps', {'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': 'a'}, 'data': {'k': 'v'}},
                                  {'User-Agent': 'audit-test/1', 'X-Forwarded-For': '9.9.9.9'})
    e = log.take(1)[0]
    check('members', list(e), ['kind', 'apiVersion', 'level', 'auditID', 'stage', 'requestURI', 'verb', 'user', 'sourceIPs', 'userAgent', 'objectRef',
                               'responseStatus', 'requestObject', 'responseObject', 'requestReceivedTimestamp', 'stageTimestamp', 'annotations'])
    check('the rest of it', {k: e[k] for k in ('kind', 'apiVersion', 'level', 'stage', 'requestURI', 'verb', 'user', 'userAgent', 'objectRef', 'responseStatus')}, {
        'kind': 'Event', 'apiVersion': 'audit.k8s.io/v1', 'level': 'RequestResponse', 'stage': 'ResponseComplete', 'requestURI': f'{ns}/configmaps',
        'verb': 'create', 'user': {'username': 'admin', 'groups': ['system:masters', 'system:authenticated']}, 'userAgent': 'audit-test/1',
        'objectRef': {'resource': 'configmaps', 'namespace': 'default', 'name': 'a', 'apiVersion': 'v1'}, 'responseStatus': {'metadata': {}, 'code': 201}})
    check('Audit-Id', headers['Audit-Id'], e['auditID'])
    check('microseconds', bool(re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z', e['stageTimestamp'])), True)
    check('request object', e['requestObject']['data'], {'k': 'v'})
    check('response object', e['responseObject']['metadata']['uid'], body['metadata']['uid'])
    check('managed fields are left out', 'managedFields' in e['responseObject']['metadata'], False)
    check('… and only there', 'managedFields' in body['metadata'], True)
    check('decision', e['annotations'], {'authorization.k8s.io/decision': 'allow', 'authorization.k8s.io/reason': ''})
    s.admin('GET', f'{ns}/configmaps/a')
    e = log.take(1)[0]
    check('get', (e['verb'], e['objectRef']['name'], e['responseObject']['data']), ('get', 'a', {'k': 'v'}))
    s.admin('PATCH', f'{ns}/configmaps/a', {'data': {'k': 'w'}}, {'Content-Type': 'application/merge-patch+json'})
    e = log.take(1)[0]
    check('patch', (e['verb'], e['requestObject'], e['responseObject']['data']), ('patch', {'data': {'k': 'w'}}, {'k': 'w'}))
    s.admin('GET', f'{ns}/configmaps')
    e = log.take(1)[0]
    check('list', (e['verb'], [i['metadata']['name'] for i in e['responseObject']['items']][0], e['objectRef']),
          ('list', 'a', {'resource': 'configmaps', 'namespace': 'default', 'apiVersion': 'v1'}))

    auth.make(s, f'{ns}/secrets', 'Secret', 'hidden', stringData={'password': 'hunter2'})
    auth.token_of(s)
    got = log.take(2)
    check('secrets: level', [e['level'] for e in got], ['Metadata', 'Metadata'])
    check('secrets: nothing of them', [k for e in got for k in ('requestObject', 'responseObject') if k in e], [])
    check('token: what it is known by', got[1]['annotations']['authentication.kubernetes.io/issued-credential-id'][:4], 'JTI=')
    check('subresource', got[1]['objectRef'], {'resource': 'serviceaccounts', 'namespace': 'default', 'name': 'default', 'apiVersion': 'v1', 'subresource': 'token'})
    check('no secret in the file', 'hunter2' in open(log.path).read(), False)

    s.call('GET', f'{ns}/pods/x', cert=cert)
    e = log.take(1)[0]
    check('refusal', (e['responseStatus']['code'], e['responseStatus']['reason'], e['annotations']['authorization.k8s.io/decision']), (403, 'Forbidden', 'forbid'))
    s.call('GET', '/api', token='x')
    e = log.take(1)[0]
    check('401', (e['stage'], e['user'], e['responseStatus']['code']), ('ResponseStarted', {}, 401))
    s.admin('GET', f'{ns}/pods', headers={'Impersonate-User': 'mask', 'Impersonate-Group': 'g'})
    e = log.take(1)[0]
    check('impersonation', (e['user']['username'], e['impersonatedUser']), ('admin', {'username': 'mask', 'groups': ['g', 'system:authenticated']}))
    s.call('PATCH', f'{ns}/pods/x', {'metadata': {}}, cert=cert, headers={'Content-Type': 'application/merge-patch+json'})
    e = log.take(1)[0]
    check('level Request', (e['level'], e.get('requestObject'), 'responseObject' in e), ('Request', {'metadata': {}}, False))
    s.admin('GET', f'{ns}/configmaps?watch=1&timeoutSeconds=1')
    got = log.take(2)
    check('watch', [(e['stage'], e['verb'], e['responseStatus']['code']) for e in got], [('ResponseStarted', 'watch', 200), ('ResponseComplete', 'watch', 200)])
    check('one request', got[0]['auditID'], got[1]['auditID'])
    s.admin('GET', '/apis/subresources.kubevirt.io/v1/namespaces/default/virtualmachines/x/none')
    s.admin('GET', '/metrics', headers={'Audit-Id': 'given', 'User-Agent': b'\xff"'.decode('latin-1')})
    got = log.take(2)
    check('a path', (got[1]['auditID'], got[1]['verb'], 'objectRef' in got[1], got[1]['userAgent']), ('given', 'get', False, '?"'))
    text = s.admin('GET', '/metrics')[1]
    check('metrics', bool(re.search(r'^apiserver_audit_event_total \d+$', text, re.M)) and 'apiserver_audit_error_total{plugin="log"} 0' in text, True)


def mistakes(binary):
    for text, want in (
            ('rules: []', 'apiVersion: "audit.k8s.io/v1" is wanted'),
            ('apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}, {level: Much}]', 'rules[1].level: Unsupported value: "Much"'),
            ('apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, nonresourceurls: [/x]}]', 'rules[0].nonresourceurls: no such field')):
        with tempfile.TemporaryDirectory() as tmp:
            path = os.path.join(tmp, 'policy.yaml')
            open(path, 'w').write(text)
            p = subprocess.run([binary, tmp, '1', '2', path], capture_output=True, text=True, timeout=20)
            check(f'policy: {want}', (p.returncode, want in p.stderr), (1, True))


def main():
    if not shutil.which('openssl'):
        print('no openssl: skipped')
        return 77
    mistakes(sys.argv[1])
    with tempfile.NamedTemporaryFile('w', suffix='.yaml') as f:
        f.write(POLICY)
        f.flush()
        s = Server(sys.argv[1], [f.name])
        try:
            events(s, Log(s))
        except BaseException:
            s.process.kill()
            raise
        s.done()
    print(f'{auth.counted - len(auth.failures)} passed, {len(auth.failures)} failed')
    return 1 if auth.failures else 0


if __name__ == '__main__':
    sys.exit(main())
