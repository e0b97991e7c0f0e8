#!/usr/bin/env python3
"""webhooks - admission webhooks against a real HTTPS server: what they may do, and what is done when they misbehave.

usage: webhooks.py TEST_APISERVER
"""
import base64
import http.client
import http.server
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import apiserver

seen = []          # (path, AdmissionReview) in the order of arrival
release = threading.Event()
failures = []


def check(what, ok, more=''):
    if not ok:
        failures.append(what)
        print('FAIL %s %s' % (what, more))


class Hook(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *args):
        pass

    def say(self, code, body):
        self.send_response(code)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, review, **response):
        response.setdefault('uid', review['request']['uid'])
        response.setdefault('allowed', True)
        self.say(200, json.dumps({'kind': 'AdmissionReview', 'apiVersion': 'admission.k8s.io/v1', 'response': response}).encode())

    def patch(self, review, *ops):
        self.answer(review, patchType='JSONPatch', patch=base64.b64encode(json.dumps(ops).encode()).decode())

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        path = self.path.split('?')[0]
        seen.append((path, review, self.path))
        getattr(self, 'on_' + path.strip('/').split('/')[0])(review)

    def on_allow(self, review):
        self.answer(review)

    def on_deny(self, review):
        self.answer(review, allowed=False, status={'code': 403, 'reason': 'Forbidden', 'message': 'not today'})

    def on_silent(self, review):
        self.answer(review, allowed=False)

    def on_warn(self, review):
        self.answer(review, warnings=['mind the gap', 'mind the gap'])

    def on_label(self, review):
        self.patch(review, {'op': 'add', 'path': '/metadata/labels', 'value': {'by': 'hook'}})

    def on_count(self, review):
        n = int((review['request']['object'].get('data') or {}).get('n', '0'))
        self.patch(review, {'op': 'add', 'path': '/data', 'value': {'n': str(n + 1)}})

    def on_uid(self, review):
        self.answer(review, uid='wrong')

    def on_badpatch(self, review):
        self.patch(review, {'op': 'replace', 'path': '/not/there', 'value': 1})

    def on_nopatchtype(self, review):
        self.answer(review, patch='W10=')

    def on_name(self, review):
        self.patch(review, {'op': 'replace', 'path': '/metadata/name', 'value': 'other'})

    def on_type(self, review):
        self.patch(review, {'op': 'add', 'path': '/data', 'value': 7})

    def on_hang(self, review):
        release.wait(120)
        self.answer(review)

    def on_die(self, review):
        self.send_response(200)
        self.send_header('Content-Length', '1000')
        self.end_headers()
        self.wfile.write(b'{"kind":')
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def on_huge(self, review):
        self.send_response(200)
        self.send_header('Transfer-Encoding', 'chunked')
        self.end_headers()
        block = b'10000\r\n' + b' ' * 65536 + b'\r\n'
        try:
            for _ in range(400):
                self.wfile.write(block)
        except OSError:
            pass
        self.close_connection = True

    def on_garbage(self, review):
        self.say(200, b'<html>')

    def on_500(self, review):
        self.say(500, b'broken')


def certificate(folder):
    key, cert = os.path.join(folder, 'key.pem'), os.path.join(folder, 'cert.pem')
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key,
                    '-out', cert, '-days', '1', '-subj', '/CN=hook', '-addext', 'subjectAltName=IP:127.0.0.1'],
                   check=True, stderr=subprocess.DEVNULL)
    return key, cert


class Api(apiserver.Process):
    def call(self, method, path, body=None, kind='application/json', timeout=40):
        c = http.client.HTTPConnection('127.0.0.1', self.plain, timeout=timeout)
        c.request(method, path, None if body is None else json.dumps(body), {'Content-Type': kind})
        r = c.getresponse()
        text = r.read()
        self.warnings = [v for k, v in r.getheaders() if k.lower() == 'warning']
        c.close()
        try:
            return r.status, json.loads(text)
        except ValueError:
            return r.status, text.decode()


CM = '/api/v1/namespaces/default/configmaps'
REG = '/apis/admissionregistration.k8s.io/v1/'


class Test:
    def __init__(self, api, port, ca):
        self.api, self.port, self.ca = api, port, base64.b64encode(open(ca, 'rb').read()).decode()
        self.n = 0

    def hook(self, path, label=None, **more):
        hook = {'name': '%s.hooks.example.com' % (label or path.split('/')[0]), 'admissionReviewVersions': ['v1'], 'sideEffects': 'None',
                'clientConfig': {'url': 'https://127.0.0.1:%d/%s' % (self.port, path), 'caBundle': self.ca},
                'timeoutSeconds': 30,  # a hook that is to answer has all the time that there may be
                'rules': [{'operations': ['*'], 'apiGroups': [''], 'apiVersions': ['v1'], 'resources': ['configmaps']}]}
        hook.update(more)
        return hook

    def configure(self, mutating=(), validating=()):
        for kind, hooks in (('mutating', mutating), ('validating', validating)):
            path = REG + kind + 'webhookconfigurations'
            self.api.call('DELETE', path + '/t')
            if hooks:
                code, body = self.api.call('POST', path, {'metadata': {'name': 't'}, 'webhooks': list(hooks)})
                check('configuration', code == 201, body)
        seen.clear()

    def make(self, query='', **more):
        self.n += 1
        name = 'c%d' % self.n
        return (name, *self.api.call('POST', CM + query, {'metadata': {'name': name}, **more}))


def refusals(t):
    for what, hook, want in (
            ('service', {'clientConfig': {'service': {'name': 'a', 'namespace': 'b'}}}, 'webhooks[0].clientConfig.service: Forbidden'),
            ('http', {'clientConfig': {'url': 'http://a/'}}, "'https' is the only allowed URL scheme"),
            ('query', {'clientConfig': {'url': 'https://a/?x=1'}}, 'query parameters are not permitted'),
            ('user', {'clientConfig': {'url': 'https://u@a/'}}, 'user information is not permitted'),
            ('bundle', {'clientConfig': {'url': 'https://a/', 'caBundle': 'AAAA'}}, 'webhooks[0].clientConfig.caBundle: Invalid value'),
            ('name', {'name': 'short'}, 'at least three segments'),
            ('timeout', {'timeoutSeconds': 31}, 'the timeout value must be between 1 and 30 seconds'),
            ('effects', {'sideEffects': 'Some'}, 'Unsupported value: "Some": supported values: "None", "NoneOnDryRun"'),
            ('versions', {'admissionReviewVersions': ['v1beta1']}, 'must include v1'),
            ('condition', {'matchConditions': [{'name': 'a', 'expression': 'object.'}]}, 'compilation failed: ERROR: <input>:1:'),
            ('condition of text', {'matchConditions': [{'name': 'a', 'expression': '"x"'}]}, 'must evaluate to bool'),
            ('authorizer', {'matchConditions': [{'name': 'a', 'expression': 'authorizer != null'}]}, 'undeclared reference'),
            ('star', {'rules': [{'operations': ['*', 'CREATE'], 'apiGroups': [''], 'apiVersions': ['v1'], 'resources': ['x']}]},
             "if '*' is present, must not specify other operations")):
        code, body = t.api.call('POST', REG + 'validatingwebhookconfigurations',
                                {'metadata': {'name': 'bad'}, 'webhooks': [t.hook('allow', **hook)]})
        check('refused ' + what, code == 422 and want in body['message'], body)


def verdicts(t):
    t.configure(validating=[t.hook('allow')])
    name, code, body = t.make(data={'a': 'b'})
    check('allowed', code == 201, body)
    request = seen[0][1]['request']
    check('timeout in the URL', seen[0][2] == '/allow?timeout=30s', seen[0][2])
    check('review', request['operation'] == 'CREATE' and request['name'] == name and request['namespace'] == 'default'
          and request['kind'] == {'group': '', 'version': 'v1', 'kind': 'ConfigMap'}
          and request['resource'] == {'group': '', 'version': 'v1', 'resource': 'configmaps'}
          and request['requestKind'] == request['kind'] and request['object']['data'] == {'a': 'b'} and request['oldObject'] is None
          and request['dryRun'] is False and request['options']['kind'] == 'CreateOptions'
          and request['userInfo']['username'] == 'admin' and 'system:masters' in request['userInfo']['groups'], request)
    for method, path, body, operation, options in (
            ('PUT', CM + '/' + name, {'metadata': {'name': name}, 'data': {'a': 'c'}}, 'UPDATE', 'UpdateOptions'),
            ('PATCH', CM + '/' + name, {'data': {'a': 'd'}}, 'UPDATE', 'UpdateOptions'),
            ('DELETE', CM + '/' + name + '?dryRun=All', None, 'DELETE', 'DeleteOptions')):
        seen.clear()
        code, got = t.api.call(method, path, body, 'application/merge-patch+json' if method == 'PATCH' else 'application/json')
        request = seen[0][1]['request'] if seen else {}
        check(method, code == 200 and request.get('operation') == operation and request['oldObject']['metadata']['name'] == name
              and request['options']['kind'] == options and (request['object'] is None) == (method == 'DELETE')
              and request['dryRun'] == (method == 'DELETE'), (code, got, request))
    seen.clear()
    code, got = t.api.call('PATCH', CM + '/applied?fieldManager=m', {'apiVersion': 'v1', 'kind': 'ConfigMap',
                                                                  'metadata': {'name': 'applied'}}, 'application/apply-patch+yaml')
    check('apply creates', code == 201 and seen and seen[0][1]['request']['operation'] == 'CREATE', got)
    t.configure(validating=[t.hook('deny')])
    name, code, body = t.make()
    check('denied', code == 403 and body['reason'] == 'Forbidden'
          and body['message'] == 'admission webhook "deny.hooks.example.com" denied the request: not today', body)
    check('nothing written', t.api.call('GET', CM + '/' + name)[0] == 404)
    code, body = t.api.call('DELETE', CM)
    check('deletecollection denied', code == 403 and t.api.call('GET', CM + '/applied')[0] == 200, body)
    t.configure(validating=[t.hook('silent')])
    _, code, body = t.make()
    check('denied without a word', code == 400
          and body['message'] == 'admission webhook "silent.hooks.example.com" denied the request without explanation', body)
    t.configure(validating=[t.hook('warn')])
    _, code, body = t.make()
    check('warned once', code == 201 and len(t.api.warnings) == 1 and 'mind the gap' in t.api.warnings[0], t.api.warnings)
    code, body = t.api.call('DELETE', CM + '?labelSelector=none%3Dsuch')
    check('deletecollection of nothing', code == 200 and body['items'] == [], body)
    seen.clear()
    code, body = t.api.call('DELETE', CM)
    check('deletecollection', code == 200 and len(body['items']) == sum(s[1]['request']['operation'] == 'DELETE' for s in seen) > 1, (code, len(seen)))


def mutation(t):
    t.configure(mutating=[t.hook('label')])
    name, code, body = t.make()
    check('patched', code == 201 and body['metadata']['labels'] == {'by': 'hook'}
          and t.api.call('GET', CM + '/' + name)[1]['metadata']['labels'] == {'by': 'hook'}, body)
    name, code, body = t.make('?dryRun=All')
    check('dry run', code == 201 and body['metadata']['labels'] == {'by': 'hook'} and t.api.call('GET', CM + '/' + name)[0] == 404
          and seen[-1][1]['request']['dryRun'] is True, body)
    t.configure(mutating=[t.hook('name')])
    name, code, body = t.make()
    check('a name stays', code == 201 and body['metadata']['name'] == name, body)
    for path, code, want in (('badpatch', 500, 'Internal error occurred: '), ('type', 400, 'ConfigMap in version "v1" cannot be handled'),
                             ('nopatchtype', 500, 'webhook returned response.patch but not response.patchType')):
        t.configure(mutating=[t.hook(path)])
        _, got, body = t.make()
        check(path, got == code and want in body['message'], body)
    # each changes the object: who asks for it is asked once more, and no loop follows
    t.configure(mutating=[t.hook('count', 'a', reinvocationPolicy='IfNeeded'), t.hook('count', 'b', reinvocationPolicy='IfNeeded')])
    _, code, body = t.make()
    check('asked again', code == 201 and body['data'] == {'n': '4'} and len(seen) == 4, (body, len(seen)))
    t.configure(mutating=[t.hook('count', 'a'), t.hook('count', 'b')])
    _, code, body = t.make()
    check('never again', code == 201 and body['data'] == {'n': '2'}, body)
    t.configure(mutating=[t.hook('label')], validating=[t.hook('allow')])
    t.make()
    check('checked as changed', seen[-1][0] == '/allow' and seen[-1][1]['request']['object']['metadata']['labels'] == {'by': 'hook'})


def matching(t):
    def rule(**more):
        return [{'operations': ['CREATE'], 'apiGroups': ['*'], 'apiVersions': ['*'], 'resources': ['*'], **more}]
    t.api.call('POST', '/api/v1/namespaces', {'metadata': {'name': 'other', 'labels': {'hooks': 'off'}}})
    for what, hook, want in (
            ('all', {'rules': rule()}, True), ('group', {'rules': rule(apiGroups=['apps'])}, False),
            ('version', {'rules': rule(apiVersions=['v2'])}, False), ('operation', {'rules': rule(operations=['DELETE'])}, False),
            ('subresource', {'rules': rule(resources=['configmaps/status'])}, False), ('scope', {'rules': rule(scope='Cluster')}, False),
            ('namespace', {'rules': rule(), 'namespaceSelector': {'matchLabels': {'a': 'b'}}}, False),
            ('namespace label', {'rules': rule(), 'namespaceSelector': {'matchLabels': {'kubernetes.io/metadata.name': 'default'}}}, True),
            ('object', {'rules': rule(), 'objectSelector': {'matchLabels': {'a': 'b'}}}, False),
            ('condition', {'rules': rule(), 'matchConditions': [{'name': 'a', 'expression': 'object.metadata.name.startsWith("c")'},
                                                                {'name': 'b', 'expression': 'request.operation == "CREATE"'}]}, True),
            ('false condition', {'rules': rule(), 'matchConditions': [{'name': 'a', 'expression': 'object.data.x == "y"'},
                                                                      {'name': 'b', 'expression': 'oldObject != null'}]}, False),
            ('condition that errs', {'rules': rule(), 'matchConditions': [{'name': 'a', 'expression': 'object.data.x == "y"'}]}, True),
            ('condition that errs, open', {'rules': rule(), 'failurePolicy': 'Ignore',
                                           'matchConditions': [{'name': 'a', 'expression': 'object.data.x == "y"'}]}, False)):
        t.configure(validating=[t.hook('deny', **hook)])
        _, code, body = t.make()
        check('match by ' + what, code == (403 if want else 201), (code, body))
    t.configure(validating=[t.hook('deny', rules=rule(operations=['*'], resources=['*', '*/*']))])
    check('other kinds', t.api.call('POST', '/api/v1/namespaces', {'metadata': {'name': 'third'}})[0] == 403)
    check('status', t.api.call('PATCH', '/api/v1/namespaces/other/status', {'status': {'phase': 'Active'}},
                               'application/merge-patch+json')[0] == 403)
    check('subresource told', seen[-1][1]['request']['subResource'] == 'status')
    check('configurations are exempt', t.api.call('DELETE', REG + 'validatingwebhookconfigurations/t')[0] == 200)


def failing(t):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        closed = s.getsockname()[1]
    for path, want in (('hang', 'context deadline exceeded'), ('die', ''), ('huge', ''), ('garbage', 'json parse error'),
                       ('uid', 'received invalid webhook response: expected response.uid='), ('500', 'an error on the server ("broken")'),
                       ('nothing', ''), ('untrusted', '')):
        for policy in ('Fail', 'Ignore'):
            hook = t.hook(path, failurePolicy=policy, timeoutSeconds=1 if path == 'hang' else 30)
            if path == 'nothing':
                hook['clientConfig']['url'] = 'https://127.0.0.1:%d/' % closed
            if path == 'untrusted':
                del hook['clientConfig']['caBundle']
            t.configure(validating=[hook])
            release.clear()
            _, code, body = t.make()
            check('%s, %s' % (path, policy), (
                code == 201 if policy == 'Ignore' else code == 500
                and ('failed calling webhook "%s.hooks.example.com": ' % path) in body['message'] and want in body['message']),
                (code, body))
            release.set()


def parked(t):
    """Others write, go and close while a request waits."""
    t.configure()
    t.api.call('POST', CM, {'metadata': {'name': 'p'}, 'data': {'n': '0'}})
    t.configure(validating=[t.hook('hang', timeoutSeconds=30,
                                   objectSelector={'matchLabels': {'slow': 'y'}})])
    release.clear()
    got = {}

    def start(key, *args):
        def run():
            got[key] = t.api.call(*args)
        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def wait_for(n):
        for _ in range(3000):
            if len(seen) >= n:
                return
            time.sleep(0.02)
        check('%d calls' % n, False, len(seen))

    code, old = t.api.call('GET', CM + '/p')
    threads = [start('patch', 'PATCH', CM + '/p', {'metadata': {'labels': {'slow': 'y'}}, 'data': {'a': '1'}},
                     'application/merge-patch+json'),
               start('put', 'PUT', CM + '/p', {'metadata': {'name': 'p', 'labels': {'slow': 'y'},
                                                            'resourceVersion': old['metadata']['resourceVersion']}}),
               start('create', 'POST', CM, {'metadata': {'name': 'q', 'labels': {'slow': 'y'}}})]
    wait_for(3)
    check('others go on', t.api.call('PATCH', CM + '/p', {'data': {'b': '2'}}, 'application/merge-patch+json')[0] == 200
          and t.api.call('POST', CM, {'metadata': {'name': 'q'}})[0] == 201)
    release.set()
    for thread in threads:
        thread.join()
    check('a patch starts anew', got['patch'][0] == 200 and got['patch'][1]['data'] == {'n': '0', 'a': '1', 'b': '2'}, got['patch'])
    check('a put that names its revision does not', got['put'][0] == 409, got['put'])
    check('a create that comes second', got['create'][0] == 409 and got['create'][1]['reason'] == 'AlreadyExists', got['create'])
    # the configuration goes meanwhile
    release.clear()
    seen.clear()
    thread = start('gone', 'POST', CM, {'metadata': {'name': 'r', 'labels': {'slow': 'y'}}})
    wait_for(1)
    t.api.call('DELETE', REG + 'validatingwebhookconfigurations/t')
    release.set()
    thread.join()
    check('without its configuration', got['gone'][0] == 201, got['gone'])
    # the client goes meanwhile
    t.configure(validating=[t.hook('hang', timeoutSeconds=30)])
    release.clear()
    s = socket.create_connection(('127.0.0.1', t.api.ports[0]))
    body = json.dumps({'metadata': {'name': 'left'}}).encode()
    s.sendall(b'POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s'
              % (CM.encode(), len(body), body))
    wait_for(1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')   # a reset: a mere end of sending is none of the connection
    s.close()
    for _ in range(5):  # the server sees the reset before it answers these
        t.api.call('GET', CM + '/left')
    release.set()
    time.sleep(0.3)
    check('whose client has gone', t.api.call('GET', CM + '/left')[0] == 404)
    # many at once
    t.configure(validating=[t.hook('allow'), t.hook('warn')], mutating=[t.hook('label')])
    threads = [start(i, 'POST', CM, {'metadata': {'name': 'm%d' % i}}) for i in range(40)]
    for thread in threads:
        thread.join()
    check('many at once', all(got[i][0] == 201 for i in range(40)), [got[i] for i in range(40) if got[i][0] != 201][:1])
    # the server closes meanwhile
    t.configure(validating=[t.hook('hang', timeoutSeconds=30)])
    release.clear()

    def closing():
        try:
            got['closing'] = t.api.call('POST', CM, {'metadata': {'name': 'z'}})
        except (OSError, http.client.HTTPException) as e:
            got['closing'] = (503, str(e))
    thread = threading.Thread(target=closing)
    thread.start()
    wait_for(1)
    code = t.api.stop()
    thread.join()
    release.set()
    check('a server that closes', code == 0 and got['closing'][0] == 503, (code, got['closing']))


def main():
    if not shutil.which('openssl'):
        print('skipped: openssl, which makes the certificate, is not installed')
        return 77
    folder = tempfile.mkdtemp(prefix='vireo-webhooks-')
    api = None
    try:
        key, cert = certificate(folder)
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hook)
        server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *args: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = Api(sys.argv[1], os.path.join(folder, 'data'))
        test = Test(api, server.server_address[1], cert)
        for part in (refusals, verdicts, mutation, matching, failing, parked):
            part(test)
    finally:
        release.set()
        if api:
            api.kill()
        shutil.rmtree(folder, ignore_errors=True)
    print('%d failed' % len(failures))
    return 1 if failures else 0


sys.exit(main())
