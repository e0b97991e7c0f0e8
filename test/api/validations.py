#!/usr/bin/env python3
"""Rules of CustomResourceDefinitions (x-kubernetes-validations) against a server of its own.

validations.py BINARY: definitions with rules are made, objects are created and updated, and what is said is compared."""
import http.client, json, os, sys, tempfile, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import apiserver

failures = []


class Server(apiserver.Process):
    def __init__(self, binary):
        super().__init__(binary, tempfile.mkdtemp(prefix='validations-'))

    def call(self, method, path, body=None, kind='application/json'):
        c = http.client.HTTPConnection('127.0.0.1', self.plain, timeout=20)
        c.request(method, path, None if body is None else json.dumps(body), {'Content-Type': kind})
        r = c.getresponse()
        text = r.read()
        self.warnings = r.headers.get_all('Warning') or []
        c.close()
        return r.status, json.loads(text) if text[:1] == b'{' else text


def check(what, got, want):
    if got != want:
        failures.append('%s\n  got  %s\n  want %s' % (what, got, want))


def has(what, text, part):
    if part not in text:
        failures.append('%s\n  got  %s\n  want %s' % (what, text, part))


def definition(plural, schema, annotations=None):
    return {'apiVersion': 'apiextensions.k8s.io/v1', 'kind': 'CustomResourceDefinition',
            'metadata': {'name': plural + '.rules.io', 'annotations': annotations or {}},
            'spec': {'group': 'rules.io', 'scope': 'Namespaced', 'names': {'plural': plural, 'kind': plural[:-1].capitalize()},
                     'versions': [{'name': 'v1', 'served': True, 'storage': True, 'schema': {'openAPIV3Schema': {
                         'type': 'object', 'properties': {'spec': schema}}}}]}}


SPEC = {
    'type': 'object',
    'properties': {
        'min': {'type': 'integer'}, 'max': {'type': 'integer'},
        'host': {'type': 'string', 'maxLength': 63, 'x-kubernetes-validations': [
            {'rule': "self.matches('^[a-z0-9-]+$')", 'message': 'host is a label'}]},
        'class': {'type': 'string', 'x-kubernetes-validations': [{'rule': 'self == oldSelf', 'message': 'class stays'}]},
    },
    'x-kubernetes-validations': [
        {'rule': '!has(self.min) || !has(self.max) || self.min <= self.max', 'message': 'min is above max',
         'messageExpression': "'min %d is above max %d'.format([self.min, self.max])", 'fieldPath': '.min'},
    ],
}
CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'


def main(binary):
    s = Server(binary)
    try:
        base = '/apis/rules.io/v1/namespaces/default/limits'

        check('define', s.call('POST', CRDS, definition('limits', SPEC))[0], 201)
        for _ in range(100):
            if s.call('GET', base)[0] == 200:
                break
            time.sleep(0.05)

        def thing(name, **spec):
            return {'apiVersion': 'rules.io/v1', 'kind': 'Limit', 'metadata': {'name': name}, 'spec': spec}

        check('good', s.call('POST', base, thing('a', min=1, max=2, host='web', **{'class': 'x'}))[0], 201)
        code, got = s.call('POST', base, thing('b', min=3, max=2))
        check('code', code, 422)
        check('message', got['message'], 'Limit.rules.io "b" is invalid: spec.min: Invalid value: min 3 is above max 2')
        check('cause', got['details']['causes'], [{'reason': 'FieldValueInvalid', 'field': 'spec.min',
                                                   'message': 'Invalid value: min 3 is above max 2'}])
        code, got = s.call('POST', base, thing('b', host='Not a label'))
        check('nested', got['message'], 'Limit.rules.io "b" is invalid: spec.host: Invalid value: host is a label')
        code, got = s.call('POST', base, thing('b', host=5, min=3, max=2))
        has('types first', got['message'], 'some validation rules were not checked because the object was invalid')
        merge = 'application/merge-patch+json'
        code, got = s.call('PATCH', base + '/a', {'spec': {'class': 'y'}}, merge)
        check('oldSelf', got['message'], 'Limit.rules.io "a" is invalid: spec.class: Invalid value: class stays')
        check('other fields', s.call('PATCH', base + '/a', {'spec': {'max': 9}}, merge)[0], 200)

        # a rule that comes later locks no object up
        code, crd = s.call('GET', CRDS + '/limits.rules.io')
        crd['spec']['versions'][0]['schema']['openAPIV3Schema']['properties']['spec']['properties']['max']['x-kubernetes-validations'] = [
            {'rule': 'self < 5'}]
        check('new rule', s.call('PUT', CRDS + '/limits.rules.io', crd)[0], 200)
        time.sleep(0.3)
        check('ratcheting', s.call('PATCH', base + '/a', {'spec': {'min': 2}}, merge)[0], 200)
        has('ratcheting warns', ' '.join(s.warnings), 'spec.max: Invalid value: failed rule: self < 5')
        check('changed value', s.call('PATCH', base + '/a', {'spec': {'max': 8}}, merge)[0], 422)

        # definitions that are refused
        def refused(what, schema, part):
            code, got = s.call('POST', CRDS, definition('wrongs', schema))
            check(what, code, 422)
            has(what, got['message'], part)

        def with_rule(rule, **more):
            return dict({'type': 'object', 'properties': {'a': {'type': 'string'}, 'l': {'type': 'array', 'items': {'type': 'string'}}},
                         'x-kubernetes-validations': [{'rule': rule}]}, **more)

        refused('unknown field', with_rule('self.b == 1'), "undefined field 'b'\n | self.b == 1\n | ....^")
        refused('syntax', with_rule('self.a =='), 'Syntax error: mismatched input \'<EOF>\'')
        refused('types', with_rule('self.a == 1'), "found no matching overload for '_==_' applied to '(string, int)'")
        refused('cost', with_rule('self.l.all(x, self.l.all(y, x == y))'), 'estimated rule cost exceeds budget by factor of more than 100x')
        refused('pattern', with_rule("self.a.matches('(')"), 'missing closing )')
        refused('absent function', with_rule('isImage(self.a)'),
                'spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule')

        # … unless the definition says that such rules may be left out
        code, _ = s.call('POST', CRDS, definition('images', with_rule('isImage(self.a)'),
                                                  {'vireo.io/ignore-unsupported-validations': 'true'}))
        check('left out', code, 201)
        has('left out warns', ' '.join(s.warnings), 'x-kubernetes-validations[0].rule: this rule is not enforced')

        # an evaluation that goes on for too long ends, and the others are served
        loops = {'type': 'object', 'properties': {'l': {'type': 'array', 'maxItems': 600, 'items': {'type': 'integer'}}},
                 'x-kubernetes-validations': [{'rule': 'self.l.all(a, self.l.all(b, a <= b + 1000))', 'message': 'near'}]}
        check('loops', s.call('POST', CRDS, definition('loops', loops))[0], 201)
        for _ in range(100):
            if s.call('GET', '/apis/rules.io/v1/namespaces/default/loops')[0] == 200:
                break
            time.sleep(0.05)
        loop = {'apiVersion': 'rules.io/v1', 'kind': 'Loop', 'metadata': {'name': 'a'}, 'spec': {'l': list(range(600))}}
        code, got = s.call('POST', '/apis/rules.io/v1/namespaces/default/loops', loop)
        check('budget', got['message'], "Loop.rules.io \"a\" is invalid: spec: Invalid value: 'operation cancelled: actual cost "
              "limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: near")
        loop['spec']['l'] = list(range(60))
        check('within the budget', s.call('POST', '/apis/rules.io/v1/namespaces/default/loops', loop)[0], 201)

        # the rules are there after a restart
        s.stop()
        s.start()
        code, got = s.call('POST', base, thing('c', host='Not a label'))
        check('after a restart', code, 422)
        check('end', s.stop(), 0)
    finally:
        s.kill()
    for f in failures:
        print(f)
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
