#!/usr/bin/env python3
"""kinds - core kinds by raw HTTP: token Secrets, quotas under a race of many clients, what tables say of them.

usage: kinds.py TEST_APISERVER
"""
import base64
import http.client
import json
import os
import shutil
import sys
import tempfile
import threading
import time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import apiserver

failures = []


def check(what, ok, more=''):
    if not ok:
        failures.append(what)
        print('FAIL %s %s' % (what, more))


class Api(apiserver.Process):
    def call(self, method, path, body=None, accept='application/json', kind='application/json'):
        c = http.client.HTTPConnection('127.0.0.1', self.plain, timeout=30)
        c.request(method, path, None if body is None else json.dumps(body), {'Content-Type': kind, 'Accept': accept})
        r = c.getresponse()
        text = r.read()
        c.close()
        try:
            return r.status, json.loads(text)
        except ValueError:
            return r.status, text.decode()

    def table(self, path):
        code, t = self.call('GET', path, accept='application/json;as=Table;v=v1;g=meta.k8s.io')
        return [row['cells'] for row in t['rows']]


NS = '/api/v1/namespaces/default/'


def until(what, f):
    for _ in range(1200):  # a minute: machines are busy
        got = f()
        if got:
            return got
        time.sleep(0.05)
    check(what, False)
    return None


def tokens(api):
    secret = {'metadata': {'name': 't', 'annotations': {'kubernetes.io/service-account.name': 'robot'}},
              'type': 'kubernetes.io/service-account-token'}
    api.call('POST', NS + 'serviceaccounts', {'metadata': {'name': 'robot'}})
    check('created', api.call('POST', NS + 'secrets', secret)[0] == 201)
    data = until('filled', lambda: (api.call('GET', NS + 'secrets/t')[1].get('data') or {}))
    if data:
        text = {k: base64.b64decode(v).decode() for k, v in data.items()}
        check('content', text.get('namespace') == 'default' and text.get('ca.crt', '').startswith('-----BEGIN'), list(text))
        code, review = api.call('POST', '/apis/authentication.k8s.io/v1/tokenreviews', {'spec': {'token': text['token']}})
        check('it is believed', review['status'].get('authenticated') is True
              and review['status']['user']['username'] == 'system:serviceaccount:default:robot', review)
    api.call('DELETE', NS + 'serviceaccounts/robot')
    until('gone with its account', lambda: api.call('GET', NS + 'secrets/t')[0] == 404)
    api.call('POST', NS + 'secrets', secret)
    until('none without an account', lambda: api.call('GET', NS + 'secrets/t')[0] == 404)


def quotas(api):
    api.call('POST', '/api/v1/namespaces', {'metadata': {'name': 'q'}})
    until('furnished', lambda: api.call('GET', '/api/v1/namespaces/q/configmaps/kube-root-ca.crt')[0] == 200)
    api.call('POST', '/api/v1/namespaces/q/resourcequotas',
             {'metadata': {'name': 'q'}, 'spec': {'hard': {'count/configmaps': '11', 'limits.cpu': '2'}}})
    until('counted', lambda: api.call('GET', '/api/v1/namespaces/q/resourcequotas/q')[1].get('status', {}).get('used'))
    codes = []
    threads = [threading.Thread(target=lambda i=i: codes.append(
        api.call('POST', '/api/v1/namespaces/q/configmaps', {'metadata': {'name': 'c%d' % i}})[0])) for i in range(100)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check('ten of a hundred', codes.count(201) == 10 and codes.count(403) == 90, sorted(set(codes)))
    until('status', lambda: api.call('GET', '/api/v1/namespaces/q/resourcequotas/q')[1]['status']['used']['count/configmaps'] == '11')
    rows = api.table('/api/v1/namespaces/q/resourcequotas')
    check('table', rows and rows[0][:3] == ['q', 'count/configmaps: 11/11', 'limits.cpu: 0/2'], rows)


def services(api):
    names = until('listed', lambda: [i['metadata']['name'] for i in api.call('GET', '/apis/apiregistration.k8s.io/v1/apiservices')[1]['items']])
    check('APIServices', names and 'v1.' in names and 'v1.kubevirt.io' in names and 'v1.policy' in names, names)
    check('table of APIServices', ['v1.apps', 'Local', 'True'] in [r[:3] for r in api.table('/apis/apiregistration.k8s.io/v1/apiservices')])
    code, body = api.call('POST', '/apis/apiregistration.k8s.io/v1/apiservices',
                          {'metadata': {'name': 'v1.metrics.k8s.io'}, 'spec': {'group': 'metrics.k8s.io', 'version': 'v1', 'groupPriorityMinimum': 1,
                           'versionPriority': 1, 'service': {'name': 'a', 'namespace': 'b'}}})
    check('remote ones are refused', code == 403 and 'CustomResourceDefinition' in body['message'], body)


def main():
    folder = tempfile.mkdtemp(prefix='vireo-kinds-')
    api = None
    try:
        api = Api(sys.argv[1], os.path.join(folder, 'data'))
        for part in (tokens, quotas, services):
            part(api)
        check('ends well', api.stop() == 0)
    finally:
        if api:
            api.kill()
        shutil.rmtree(folder, ignore_errors=True)
    print('%d failed' % len(failures))
    return 1 if failures else 0


sys.exit(main())
