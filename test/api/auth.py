#!/usr/bin/env python3
"""Who may do what, asked over HTTPS with real certificates and tokens.

auth.py SERVER-BINARY [NAME-PART…]: starts test-apiserver and prints a line for each check that fails. Exits with 77 (skipped) where
openssl is absent. Wordings are kube-apiserver's.
"""
import base64, contextlib, http.client, json, os, shutil, ssl, subprocess, sys, tempfile, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import apiserver

RBAC = '/apis/rbac.authorization.k8s.io/v1'


class Server(apiserver.Process):
    def __init__(self, binary, args=()):
        self.dir = tempfile.mkdtemp(prefix='vireo-auth-')
        super().__init__(binary, self.dir, args, open(os.path.join(self.dir, 'stderr'), 'a'))

    def stop(self):
        if super().stop() != 0:
            print(open(os.path.join(self.dir, 'stderr')).read())
            raise SystemExit(f'test-apiserver ended badly: {self.process.returncode}')

    def done(self):
        self.stop()
        shutil.rmtree(self.dir)

    def admin(self, method, path, body=None, headers=None):
        c = http.client.HTTPConnection('127.0.0.1', self.plain, timeout=20)
        return self.send(c, method, path, body, headers)

    def call(self, method, path, body=None, headers=None, cert=None, token=None):
        context = ssl._create_unverified_context()
        if cert:
            context.load_cert_chain(cert[0], cert[1])
        c = http.client.HTTPSConnection('127.0.0.1', self.tls, timeout=20, context=context)
        h = list(headers if isinstance(headers, list) else (headers or {}).items())
        if token is not None:
            h.append(('Authorization', f'Bearer {token}'))
        return self.send(c, method, path, body, h)

    @staticmethod
    def send(c, method, path, body, headers):
        h = headers or {}
        items = list(h) if isinstance(h, list) else list(h.items())
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            if not any(k.lower() == 'content-type' for k, _ in items):
                items.append(('Content-Type', 'application/json'))
        c.putrequest(method, path)
        for k, v in items:
            c.putheader(k, v)
        if data is not None:
            c.putheader('Content-Length', str(len(data)))
        c.endheaders(data)
        r = c.getresponse()
        text = r.read().decode()
        with contextlib.suppress(ValueError):
            text = json.loads(text)
        c.close()
        return r.status, text, r.headers

    def cert(self, name, groups=(), days=1, ca=None, start=None):
        """A client certificate of the server's authority, or of the (certificate, key) given."""
        base = os.path.join(self.dir, 'c%d' % len(os.listdir(self.dir)))
        ca = ca or (os.path.join(self.dir, 'ca.crt'), os.path.join(self.dir, 'ca.key'))
        subject = ''.join(f'/O={g}' for g in groups) + (f'/CN={name}' if name else '')
        run = lambda *a: subprocess.run(a, check=True, capture_output=True)
        run('openssl', 'ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', base + '.key')
        run('openssl', 'req', '-new', '-key', base + '.key', '-subj', subject or '/', '-out', base + '.csr')
        with open(base + '.ext', 'w') as f:
            f.write('extendedKeyUsage=clientAuth\n')
        run('openssl', 'x509', '-req', '-in', base + '.csr', '-CA', ca[0], '-CAkey', ca[1], '-CAcreateserial', '-days', str(days),
            '-extfile', base + '.ext', '-out', base + '.crt')
        return base + '.crt', base + '.key'

    def other_ca(self):
        base = os.path.join(self.dir, 'other')
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj',
                        '/CN=test', '-days', '2', '-keyout', base + '.key', '-out', base + '.crt'], check=True, capture_output=True)
        return base + '.crt', base + '.key'


failures, counted = [], 0


def check(what, got, want):
    global counted
    counted += 1
    if got != want:
        failures.append(what)
        print(f'{what}:\n  got  {got!r}\n  want {want!r}')


def short(answer):
    code, body, _ = answer
    return (code, body.get('reason'), body.get('message')) if isinstance(body, dict) and body.get('kind') == 'Status' else (code,)


UNAUTHORIZED = (401, 'Unauthorized', 'Unauthorized')


def whoami(s, **kw):
    code, body, _ = s.call('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews',
                           {'apiVersion': 'authentication.k8s.io/v1', 'kind': 'SelfSubjectReview'}, **kw)
    return body['status']['userInfo'] if code == 201 else (code, body.get('message'))


def make(s, path, kind, name, **more):
    version = 'v1' if path.startswith('/api/v1') else '/'.join(path.split('/')[2:4])
    code, body, _ = s.admin('POST', path, {'apiVersion': version, 'kind': kind, 'metadata': {'name': name, **more.pop('metadata', {})}, **more})
    if code != 201:
        raise SystemExit(f'{path} {name}: {code} {body}')
    return body


def role(s, name, *rules, ns=None, **more):
    path = f'{RBAC}/namespaces/{ns}/roles' if ns else f'{RBAC}/clusterroles'
    return make(s, path, 'Role' if ns else 'ClusterRole', name, rules=list(rules), **more)


def bind(s, name, ref, subject, ns=None):
    path = f'{RBAC}/namespaces/{ns}/rolebindings' if ns else f'{RBAC}/clusterrolebindings'
    return make(s, path, 'RoleBinding' if ns else 'ClusterRoleBinding', name,
                roleRef={'apiGroup': 'rbac.authorization.k8s.io', 'kind': ref[0], 'name': ref[1]}, subjects=[subject])


def user(name):
    return {'kind': 'User', 'name': name}


def rule(verbs, resources, groups=('',), **more):
    return {'apiGroups': list(groups), 'resources': resources.split(), 'verbs': verbs.split(), **more}


def token_of(s, account='default', ns='default', **spec):
    code, body, _ = s.admin('POST', f'/api/v1/namespaces/{ns}/serviceaccounts/{account}/token',
                            {'apiVersion': 'authentication.k8s.io/v1', 'kind': 'TokenRequest', 'spec': spec})
    return body['status']['token'] if code == 201 else (code, body)


def b64(data):
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).rstrip(b'=').decode()


def certificates(s):
    alice = s.cert('alice', ['dev', 'ops'])
    check('certificate', whoami(s, cert=alice), {'username': 'alice', 'groups': ['dev', 'ops', 'system:authenticated']})
    other = s.other_ca()
    check('certificate of another authority', short(s.call('GET', '/api', cert=s.cert('alice', ca=other))), UNAUTHORIZED)
    check('… also where anonymous may', short(s.call('GET', '/livez', cert=s.cert('alice', ca=other))), UNAUTHORIZED)
    check('… but with a token', whoami(s, cert=s.cert('alice', ca=other), token=token_of(s))['username'],
          'system:serviceaccount:default:default')
    check('certificate past its time', short(s.call('GET', '/api', cert=s.cert('alice', days=-1))), UNAUTHORIZED)
    check('certificate before a bad token', whoami(s, cert=alice, token='x')['username'], 'alice')
    check('certificate before a token', whoami(s, cert=alice, token=token_of(s))['username'], 'alice')
    check('headers of a proxy', whoami(s, cert=alice, headers={'X-Remote-User': 'root', 'X-Remote-Group': 'system:masters'})['username'],
          'alice')


def anonymous(s):
    for path, code in (('/livez', 200), ('/readyz', 200), ('/version', 200), ('/livez?verbose', 200), ('/healthz', 401), ('/', 401),
                       ('/metrics', 401), ('/api', 401), ('/apis', 401), ('/openapi/v2', 401), ('/livez/ping', 401), ('/nothing', 401),
                       ('/api/v1/namespaces', 401), ('/.well-known/openid-configuration', 401)):
        check(f'anonymous {path}', s.call('GET', path)[0], code)
    for value in ('Basic YTpi', 'Bearer', 'Bearer ', 'bearer', 'Digest x', ''):
        check(f'Authorization {value!r} is none', s.call('GET', '/livez', headers={'Authorization': value})[0], 200)
        check(f'Authorization {value!r} elsewhere', short(s.call('GET', '/api', headers={'Authorization': value})), UNAUTHORIZED)
    check('a bad token is not anonymous', short(s.call('GET', '/livez', token='x')), UNAUTHORIZED)
    check('any spelling of bearer', s.call('GET', '/api', headers={'Authorization': f'bEaReR {token_of(s)} more'})[0], 200)


def tokens(s):
    good = token_of(s)
    head, body, sig = good.split('.')
    claims = json.loads(base64.urlsafe_b64decode(body + '=='))
    header = json.loads(base64.urlsafe_b64decode(head + '=='))
    who = whoami(s, token=good)
    uid = s.admin('GET', '/api/v1/namespaces/default/serviceaccounts/default')[1]['metadata']['uid']
    check('account', who, {'username': 'system:serviceaccount:default:default', 'uid': uid,
                           'groups': ['system:serviceaccounts', 'system:serviceaccounts:default', 'system:authenticated'],
                           'extra': {'authentication.kubernetes.io/credential-id': ['JTI=' + claims['jti']]}})
    flipped = b64(bytes([base64.urlsafe_b64decode(sig + '==')[0] ^ 1]) + base64.urlsafe_b64decode(sig + '==')[1:])
    attacks = {
        'alg none': b64({'alg': 'none'}) + '.' + body + '.',
        'alg none with signature': b64({'alg': 'none'}) + '.' + body + '.' + sig,
        'another alg': b64({**header, 'alg': 'HS256'}) + '.' + body + '.' + sig,
        'another kid': b64({**header, 'kid': 'x'}) + '.' + body + '.' + sig,
        'other claims': head + '.' + b64({**claims, 'sub': 'system:serviceaccount:kube-system:default'}) + '.' + sig,
        'no signature': head + '.' + body + '.',
        'two parts': head + '.' + body,
        'four parts': good + '.' + sig,
        'flipped signature': head + '.' + body + '.' + flipped,
        'signature of zeros': head + '.' + body + '.' + b64(bytes(64)),
        'padding': head + '=.' + body + '.' + sig,
        'rubbish': '....',
        'not base64': '!!.!!.!!',
        '16 KiB': head + '.' + 'A' * 17000 + '.' + sig,
        'header is no object': b64([1]) + '.' + body + '.' + sig,
    }
    for what, token in attacks.items():
        check(f'token: {what}', short(s.call('GET', '/api', token=token)), UNAUTHORIZED)
    check('token of another audience', short(s.call('GET', '/api', token=token_of(s, audiences=['vault']))), UNAUTHORIZED)
    for seconds, message in ((599, 'may not specify a duration less than 10 minutes'),
                             (2**32 + 1, 'may not specify a duration larger than 2^32 seconds')):
        check(f'{seconds} s', token_of(s, expirationSeconds=seconds)[1]['message'],
              f'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: {seconds}: {message}')
    make(s, '/api/v1/namespaces/default/serviceaccounts', 'ServiceAccount', 'brief')
    bound = token_of(s, 'brief')
    make(s, '/api/v1/namespaces/default/secrets', 'Secret', 'anchor')
    anchored = token_of(s, boundObjectRef={'kind': 'Secret', 'apiVersion': 'v1', 'name': 'anchor'})
    check('bound to nothing', token_of(s, boundObjectRef={'kind': 'Secret', 'apiVersion': 'v1', 'name': 'none'})[1]['message'],
          'secrets "none" not found')
    check('bound to a map', token_of(s, boundObjectRef={'kind': 'ConfigMap', 'apiVersion': 'v1', 'name': 'x'})[1]['message'],
          'cannot bind token to object of type /v1, Kind=ConfigMap')
    check('token while its account lives', s.call('GET', '/api', token=bound)[0], 200)
    check('token while its secret lives', s.call('GET', '/api', token=anchored)[0], 200)
    s.admin('DELETE', '/api/v1/namespaces/default/serviceaccounts/brief')
    s.admin('DELETE', '/api/v1/namespaces/default/secrets/anchor')
    check('token whose account is gone', short(s.call('GET', '/api', token=bound)), UNAUTHORIZED)
    check('token whose secret is gone', short(s.call('GET', '/api', token=anchored)), UNAUTHORIZED)
    make(s, '/api/v1/namespaces/default/serviceaccounts', 'ServiceAccount', 'brief')
    check('token of an account that was made anew', short(s.call('GET', '/api', token=bound)), UNAUTHORIZED)


def reviews(s):
    token = token_of(s, audiences=['vault', 'https://kubernetes.default.svc'])

    def review(text, **spec):
        return s.admin('POST', '/apis/authentication.k8s.io/v1/tokenreviews',
                       {'apiVersion': 'authentication.k8s.io/v1', 'kind': 'TokenReview', 'spec': {'token': text, **spec}})[1]['status']
    check('TokenReview audiences', review(token, audiences=['x', 'vault'])['audiences'], ['vault'])
    check('TokenReview default audience', review(token)['audiences'], ['https://kubernetes.default.svc'])
    check('TokenReview other audience', review(token, audiences=['x']), {'user': {}, 'error': 'invalid bearer token'})
    check('TokenReview NUL', review(token + '\0'), {'user': {}, 'error': 'invalid bearer token'})
    check('OIDC keys', list(s.call('GET', '/openid/v1/jwks', token=token)[1]['keys'][0])[:3], ['use', 'kty', 'kid'])
    check('OIDC discovery', s.call('GET', '/.well-known/openid-configuration', token=token)[1]['issuer'], 'https://kubernetes.default.svc')

    def access(**spec):
        return s.admin('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews',
                       {'apiVersion': 'authorization.k8s.io/v1', 'kind': 'SubjectAccessReview', 'spec': spec})[1]['status']
    role(s, 'pod-reader', rule('get', 'pods'), ns='default')
    bind(s, 'read', ('Role', 'pod-reader'), {'kind': 'ServiceAccount', 'name': 'default'}, ns='default')
    check('reason: RoleBinding to an account',
          access(user='system:serviceaccount:default:default', resourceAttributes={'verb': 'get', 'resource': 'pods', 'namespace': 'default'}),
          {'allowed': True, 'reason': 'RBAC: allowed by RoleBinding "read/default" of Role "pod-reader" to ServiceAccount "default/default"'})
    bind(s, 'dangling', ('ClusterRole', 'nowhere'), user('dave'))
    check('reason: dangling binding', access(user='dave', resourceAttributes={'verb': 'get', 'resource': 'pods', 'namespace': 'default'}),
          {'allowed': False, 'reason': 'RBAC: clusterrole.rbac.authorization.k8s.io "nowhere" not found'})
    check('403 with a dangling binding', short(s.call('GET', '/api/v1/namespaces/default/pods/x', cert=s.cert('dave')))[2],
          'pods "x" is forbidden: User "dave" cannot get resource "pods" in API group "" in the namespace "default": '
          'RBAC: clusterrole.rbac.authorization.k8s.io "nowhere" not found')
    check('403 of a path', short(s.call('GET', '/metrics', cert=s.cert('dave')))[2],
          'forbidden: User "dave" cannot get path "/metrics": RBAC: clusterrole.rbac.authorization.k8s.io "nowhere" not found')


def rbac(s):
    erin, frank = s.cert('erin'), s.cert('frank')
    get = lambda path, cert: s.call('GET', path, cert=cert)[0]
    ns = '/api/v1/namespaces/default'
    make(s, f'{ns}/configmaps', 'ConfigMap', 'one')
    make(s, f'{ns}/configmaps', 'ConfigMap', 'two')
    check('nothing without a binding', get(f'{ns}/configmaps/one', erin), 403)
    role(s, 'one-map', rule('get list watch', 'configmaps', resourceNames=['one']), ns='default')
    bind(s, 'erin', ('Role', 'one-map'), user('erin'), ns='default')
    for path, code in (('one', 200), ('two', 403), ('', 403), ('?fieldSelector=metadata.name%3Done', 200), ('?fieldSelector=metadata.name%3Dtwo', 403)):
        check(f'resourceNames: {path}', get(f'{ns}/configmaps{"/" if path and path[0] != "?" else ""}{path}', erin), code)
    s.admin('DELETE', f'{RBAC}/namespaces/default/rolebindings/erin')
    check('the very next request', get(f'{ns}/configmaps/one', erin), 403)
    role(s, 'paths', {'nonResourceURLs': ['/metrics', '/logs/*'], 'verbs': ['get']}, rule('update get', '*/scale', ['*']))
    bind(s, 'frank', ('ClusterRole', 'paths'), user('frank'))
    check('nonResourceURLs', get('/metrics', frank), 200)
    check('nonResourceURLs *', get('/logs/a/b', frank), 404)
    check('… and no others', get('/debug', frank), 403)
    check('*/scale', get('/apis/kubevirt.io/v1/namespaces/default/virtualmachines/x/scale', frank), 404)
    check('namespace within itself', short(s.call('GET', ns, cert=erin))[2],
          'namespaces "default" is forbidden: User "erin" cannot get resource "namespaces" in API group "" in the namespace "default"')
    # Handing out rights.
    role(s, 'rbac-writer', rule('create update patch', 'clusterroles clusterrolebindings roles rolebindings', ['rbac.authorization.k8s.io']),
         rule('get list', 'pods'))
    grace = s.cert('grace', ['dev'])
    bind(s, 'grace-rbac', ('ClusterRole', 'rbac-writer'), user('grace'))

    def try_role(cert, name, *rules, **more):
        return short(s.call('POST', f'{RBAC}/clusterroles', {'apiVersion': 'rbac.authorization.k8s.io/v1', 'kind': 'ClusterRole',
                                                             'metadata': {'name': name}, 'rules': list(rules), **more}, cert=cert))
    head = ('clusterroles.rbac.authorization.k8s.io "x" is forbidden: user "grace" (groups=["dev" "system:authenticated"]) is attempting '
            'to grant RBAC permissions not currently held:\n')
    check('escalation', try_role(grace, 'x', rule('get delete', 'pods secrets'))[2],
          head + '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}\n{APIGroups:[""], Resources:["secrets"], Verbs:["get" "delete"]}')
    check('escalation of paths', try_role(grace, 'x', {'nonResourceURLs': ['/metrics'], 'verbs': ['get']})[2],
          head + '{NonResourceURLs:["/metrics"], Verbs:["get"]}')
    check('escalation by name', try_role(grace, 'x', rule('get', 'secrets', resourceNames=['s']))[2],
          head + '{APIGroups:[""], Resources:["secrets"], ResourceNames:["s"], Verbs:["get"]}')
    check('what is held may be given', try_role(grace, 'given', rule('get', 'pods'))[0], 201)
    check('aggregation needs everything',
          try_role(grace, 'x', aggregationRule={'clusterRoleSelectors': [{'matchLabels': {'a': 'b'}}]})[2],
          'clusterroles.rbac.authorization.k8s.io "x" is forbidden: must have cluster-admin privileges to use the aggregationRule')

    def try_bind(cert, ref, name='x'):
        return short(s.call('POST', f'{RBAC}/clusterrolebindings', {
            'apiVersion': 'rbac.authorization.k8s.io/v1', 'kind': 'ClusterRoleBinding', 'metadata': {'name': name},
            'roleRef': {'apiGroup': 'rbac.authorization.k8s.io', 'kind': 'ClusterRole', 'name': ref}, 'subjects': [user('mallory')]}, cert=cert))
    check('binding what is not held', try_bind(grace, 'cluster-admin')[2],
          'clusterrolebindings.rbac.authorization.k8s.io "x" is forbidden: user "grace" (groups=["dev" "system:authenticated"]) is attempting '
          'to grant RBAC permissions not currently held:\n{APIGroups:["*"], Resources:["*"], Verbs:["*"]}\n{NonResourceURLs:["*"], Verbs:["*"]}')
    check('binding a role that is not there', try_bind(grace, 'nowhere')[2], 'clusterroles.rbac.authorization.k8s.io "nowhere" not found')
    role(s, 'binder', rule('bind', 'clusterroles', ['rbac.authorization.k8s.io'], resourceNames=['view']),
         rule('escalate', 'clusterroles', ['rbac.authorization.k8s.io']))
    bind(s, 'grace-bind', ('ClusterRole', 'binder'), user('grace'))
    check('bind', try_bind(grace, 'view', 'ok')[0], 201)
    check('bind names its roles', try_bind(grace, 'edit')[0], 403)
    check('escalate', try_role(grace, 'escalated', rule('*', 'secrets'))[0], 201)
    # Rules of the objects themselves.
    admin = lambda method, path, body: short(s.admin(method, path, body))
    bad = {'apiVersion': 'rbac.authorization.k8s.io/v1', 'kind': 'Role', 'metadata': {'name': 'bad', 'namespace': 'default'},
           'rules': [{'nonResourceURLs': ['/x'], 'verbs': ['get']}, {'verbs': []}]}
    check('role validation', admin('POST', f'{RBAC}/namespaces/default/roles', bad)[2],
          'Role.rbac.authorization.k8s.io "bad" is invalid: [rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to '
          'non-resource URLs, rules[1].verbs: Required value: verbs must contain at least one value, rules[1].apiGroups: Required value: '
          'resource rules must supply at least one api group, rules[1].resources: Required value: resource rules must supply at least one resource]')
    b = s.admin('GET', f'{RBAC}/clusterrolebindings/ok')[1]
    b['roleRef']['name'] = 'edit'
    check('roleRef stays', admin('PUT', f'{RBAC}/clusterrolebindings/ok', b)[2],
          'ClusterRoleBinding.rbac.authorization.k8s.io "ok" is invalid: roleRef: Invalid value: '
          '{"APIGroup":"rbac.authorization.k8s.io","Kind":"ClusterRole","Name":"edit"}: cannot change roleRef')
    check('subjects get their group', s.admin('GET', f'{RBAC}/clusterrolebindings/ok')[1]['subjects'],
          [{'apiGroup': 'rbac.authorization.k8s.io', 'kind': 'User', 'name': 'mallory'}])


def settled(s, name, want, seconds=5):
    for _ in range(seconds * 20):
        rules = s.admin('GET', f'{RBAC}/clusterroles/{name}')[1].get('rules')
        if want(rules):
            return True
        time.sleep(0.05)
    return rules


def aggregation(s):
    has = lambda resource: lambda rules: any(resource in r.get('resources', []) for r in rules or [])
    check('admin has the VMs', settled(s, 'admin', has('virtualmachines')), True)
    check('view has no secrets', settled(s, 'view', lambda rules: not has('secrets')(rules)), True)
    role(s, 'extra', rule('get', 'widgets', ['example.com']), metadata={'labels': {'rbac.authorization.k8s.io/aggregate-to-view': 'true'}})
    for name in ('view', 'edit', 'admin'):
        check(f'{name} grows', settled(s, name, has('widgets')), True)
    s.admin('PATCH', f'{RBAC}/clusterroles/extra', {'metadata': {'labels': None}}, {'Content-Type': 'application/merge-patch+json'})
    for name in ('view', 'edit', 'admin'):
        check(f'{name} shrinks', settled(s, name, lambda rules: not has('widgets')(rules)), True)
    manager = [m['manager'] for m in s.admin('GET', f'{RBAC}/clusterroles/view')[1]['metadata']['managedFields']]
    check('who wrote it', 'clusterrole-aggregation-controller' in manager, True)


def account_secrets(s):
    path = '/api/v1/namespaces/default/secrets/'
    make(s, '/api/v1/namespaces/default/serviceaccounts', 'ServiceAccount', 'old')
    make(s, path[:-1], 'Secret', 'old-token', type='kubernetes.io/service-account-token',
         metadata={'annotations': {'kubernetes.io/service-account.name': 'old'}})

    def soon(name, want):
        for _ in range(100):
            got = want(*s.admin('GET', path + name)[:2])
            if got:
                return got
            time.sleep(0.05)
        return None
    data = soon('old-token', lambda code, body: body.get('data'))
    check('what the Secret gets', sorted(data or {}), ['ca.crt', 'namespace', 'token'])
    token = base64.b64decode(data['token']).decode()
    check('token of old', whoami(s, token=token)['username'], 'system:serviceaccount:default:old')
    check('… has no end', 'exp' in json.loads(base64.urlsafe_b64decode(token.split('.')[1] + '==')), False)
    s.admin('PATCH', path + 'old-token', {'data': {'token': base64.b64encode(b'x').decode()}}, {'Content-Type': 'application/merge-patch+json'})
    check('… is its Secret\'s', short(s.call('GET', '/api', token=token)), UNAUTHORIZED)
    s.admin('DELETE', '/api/v1/namespaces/default/serviceaccounts/old')
    check('goes with its account', soon('old-token', lambda code, body: code == 404), True)
    make(s, path[:-1], 'Secret', 'nobodys', type='kubernetes.io/service-account-token',
         metadata={'annotations': {'kubernetes.io/service-account.name': 'nobody'}})
    check('of no account', soon('nobodys', lambda code, body: code == 404), True)


def nodes(s):
    node = s.cert('system:node:n1', ['system:nodes'])
    ns = '/api/v1/namespaces/default'
    merge = {'Content-Type': 'application/merge-patch+json'}
    get = lambda path: s.call('GET', path, cert=node)[0]
    for name in ('n1', 'n2'):
        make(s, '/api/v1/nodes', 'Node', name)
    for name in ('named', 'projected', 'pulled', 'other', 'elsewhere'):
        make(s, f'{ns}/secrets', 'Secret', name)

    def pod(name, on, *volumes, **spec):
        return make(s, f'{ns}/pods', 'Pod', name, spec={'nodeName': on, 'containers': [{'name': 'c', 'image': 'i'}],
                                                        'volumes': [{'name': f'v{i}', **v} for i, v in enumerate(volumes)], **spec})
    check('nothing is named yet', get(f'{ns}/secrets/named'), 403)
    pod('mine', 'n1', {'secret': {'secretName': 'named'}}, {'projected': {'sources': [{'secret': {'name': 'projected'}}]}},
        imagePullSecrets=[{'name': 'pulled'}])
    pod('theirs', 'n2', {'secret': {'secretName': 'elsewhere'}})
    for name, code in (('named', 200), ('projected', 200), ('pulled', 200), ('other', 403), ('elsewhere', 403)):
        check(f'secret {name}', get(f'{ns}/secrets/{name}'), code)
    check('no list of secrets', get(f'{ns}/secrets'), 403)
    check('why', short(s.call('GET', f'{ns}/secrets/other', cert=node))[2],
          'secrets "other" is forbidden: User "system:node:n1" cannot get resource "secrets" in API group "" in the namespace "default": '
          "no relationship found between node 'n1' and this object")
    for path, code in (('/api/v1/nodes/n1/status', 200), ('/api/v1/nodes/n2/status', 403), ('/api/v1/nodes/n2', 403),
                       (f'{ns}/pods/mine/status', 200), (f'{ns}/pods/theirs/status', 403), (f'{ns}/pods/mine', 403)):
        check(f'patch {path}', s.call('PATCH', path, {'metadata': {'annotations': {'a': 'b'}}}, merge, cert=node)[0], code)
    check('delete of another node\'s pod', s.call('DELETE', f'{ns}/pods/theirs', cert=node)[0], 403)
    check('no roles', s.call('POST', f'{RBAC}/clusterroles', {}, cert=node)[0], 403)
    check('a node without the group', s.call('GET', '/api/v1/nodes', cert=s.cert('system:node:n1'))[0], 403)
    check('delete of its own pod', s.call('DELETE', f'{ns}/pods/mine?gracePeriodSeconds=0', cert=node)[0], 200)
    check('what a gone pod named', get(f'{ns}/secrets/named'), 403)
    review = s.call('POST', '/apis/authorization.k8s.io/v1/selfsubjectrulesreviews', {
        'apiVersion': 'authorization.k8s.io/v1', 'kind': 'SelfSubjectRulesReview', 'spec': {'namespace': 'default'}}, cert=node)[1]['status']
    check('rules of a node', (review['incomplete'], review['evaluationError']), (True, 'node authorizer does not support user rule resolution'))


def reconciliation(s):
    path = f'{RBAC}/clusterroles/'
    merge = {'Content-Type': 'application/merge-patch+json'}
    s.admin('PATCH', path + 'system:basic-user', {'rules': [rule('get', 'pods')]}, merge)
    s.admin('PATCH', path + 'system:discovery', {'rules': [], 'metadata': {'annotations': {'rbac.authorization.kubernetes.io/autoupdate': 'false'}}}, merge)
    s.admin('PATCH', path + 'kubevirt.io:view', {'rules': []}, merge)
    s.stop()
    s.start()
    rules = s.admin('GET', path + 'system:basic-user')[1]['rules']
    check('autoupdate adds and keeps', [r['resources'] for r in rules], [['pods'], ['selfsubjectaccessreviews', 'selfsubjectrulesreviews'], ['selfsubjectreviews']])
    check('autoupdate: "false"', s.admin('GET', path + 'system:discovery')[1].get('rules'), [])
    check("KubeVirt's are put back", len(s.admin('GET', path + 'kubevirt.io:view')[1]['rules']), 11)


def impersonation(s):
    ivan, admin = s.cert('ivan'), s.cert('root', ['system:masters'])
    check('as somebody', whoami(s, cert=admin, headers={'Impersonate-User': 'u'}), {'username': 'u', 'groups': ['system:authenticated']})
    check('as an account', whoami(s, cert=admin, headers={'Impersonate-User': 'system:serviceaccount:a:b'}),
          {'username': 'system:serviceaccount:a:b', 'groups': ['system:serviceaccounts', 'system:serviceaccounts:a', 'system:authenticated']})
    check('with all of it', whoami(s, cert=admin, headers=[('Impersonate-User', 'u'), ('Impersonate-Group', 'g'), ('Impersonate-Group', 'h'),
                                                           ('Impersonate-Uid', '7'), ('Impersonate-Extra-Acme.com%2fproject', 'p'),
                                                           ('Impersonate-Extra-Acme.com%2fproject', 'q')]),
          {'username': 'u', 'uid': '7', 'groups': ['g', 'h', 'system:authenticated'], 'extra': {'acme.com/project': ['p', 'q']}})
    check('as anonymous', whoami(s, cert=admin, headers={'Impersonate-User': 'system:anonymous'})[0], 403)
    check('without a user', short(s.call('GET', '/api', cert=admin, headers=[('Impersonate-Group', 'g'), ('Impersonate-Uid', '7')])),
          (400, 'BadRequest', 'requested [{Group  g    } {UID  7  authentication.k8s.io/v1  }] without impersonating a user'))
    for headers, message in (
            ([('Impersonate-User', 'u')], 'users "u" is forbidden: User "ivan" cannot impersonate resource "users" in API group "" at the cluster scope'),
            ([('Impersonate-User', 'system:serviceaccount:a:b')],
             'serviceaccounts "b" is forbidden: User "ivan" cannot impersonate resource "serviceaccounts" in API group "" in the namespace "a"')):
        check(f'ivan {headers}', short(s.call('GET', '/api', cert=ivan, headers=headers)), (403, 'Forbidden', message))
    role(s, 'masks', rule('impersonate', 'users', resourceNames=['u']), rule('impersonate', 'userextras/scope', ['authentication.k8s.io']))
    bind(s, 'ivan', ('ClusterRole', 'masks'), user('ivan'))
    check('ivan as u', whoami(s, cert=ivan, headers={'Impersonate-User': 'u', 'Impersonate-Extra-Scope': 'x'})['extra'], {'scope': ['x']})
    for header, message in (
            ('Impersonate-Group', 'groups "g" is forbidden: User "ivan" cannot impersonate resource "groups" in API group "" at the cluster scope'),
            ('Impersonate-Uid', 'uids.authentication.k8s.io "g" is forbidden: User "ivan" cannot impersonate resource "uids" in API group '
             '"authentication.k8s.io" at the cluster scope'),
            ('Impersonate-Extra-Other', 'userextras.authentication.k8s.io "g" is forbidden: User "ivan" cannot impersonate resource '
             '"userextras/other" in API group "authentication.k8s.io" at the cluster scope')):
        check(f'ivan {header}', short(s.call('GET', '/api', cert=ivan, headers=[('Impersonate-User', 'u'), (header, 'g')]))[2], message)


def bootstrap_tokens(s):
    def secret(ident, **data):
        values = {'token_id': ident, 'token_secret': '0123456789abcdef', 'usage_bootstrap_authentication': 'true', **data}
        make(s, '/api/v1/namespaces/kube-system/secrets', 'Secret', f'bootstrap-token-{ident}', type='bootstrap.kubernetes.io/token',
             stringData={k.replace('_', '-'): v for k, v in values.items() if v is not None})
        return f'{ident}.0123456789abcdef'
    at = lambda seconds: time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + seconds))
    check('bootstrap token', whoami(s, token=secret('aaaaaa', auth_extra_groups='system:bootstrappers:kubeadm:x', expiration=at(600))),
          {'username': 'system:bootstrap:aaaaaa', 'groups': ['system:bootstrappers', 'system:bootstrappers:kubeadm:x', 'system:authenticated']})
    check('wrong secret', short(s.call('GET', '/api', token='aaaaaa.0123456789abcdee')), UNAUTHORIZED)
    check('not for this', short(s.call('GET', '/api', token=secret('bbbbbb', usage_bootstrap_authentication=None))), UNAUTHORIZED)
    check('bad group', short(s.call('GET', '/api', token=secret('cccccc', auth_extra_groups='system:masters'))), UNAUTHORIZED)
    check('expired', short(s.call('GET', '/api', token=secret('dddddd', expiration=at(-5)))), UNAUTHORIZED)
    secret('ffffff', expiration=at(1))
    for _ in range(100):
        code = s.admin('GET', '/api/v1/namespaces/kube-system/secrets/bootstrap-token-ffffff')[0]
        if code == 404:
            break
        time.sleep(0.05)
    check('an expired one goes', code, 404)
    check('unreadable expiration', short(s.call('GET', '/api', token=secret('eeeeee', expiration='soon'))), UNAUTHORIZED)


def main():
    if not shutil.which('openssl'):
        print('no openssl: skipped')
        return 77
    s = Server(sys.argv[1])
    try:
        for f in (certificates, anonymous, tokens, reviews, rbac, aggregation, impersonation, bootstrap_tokens, account_secrets, nodes, reconciliation):
            if not sys.argv[2:] or any(part in f.__name__ for part in sys.argv[2:]):
                f(s)
    finally:
        s.done()
    print(f'{counted - len(failures)} passed, {len(failures)} failed')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
