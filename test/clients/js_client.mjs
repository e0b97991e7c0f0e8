// The official JavaScript client (@kubernetes/client-node) against a server: node js_client.mjs KUBECONFIG. One line per promise.
// The package's own transport speaks HTTP/1.1; the informers below run over HTTP/2, through the package's seams for transports.
import http2 from 'node:http2';
import process from 'node:process';
import { createRequire } from 'node:module';

// The package lies where the test put it, not beside this file.
const require = createRequire(process.env.JS_CLIENT_DIR + '/x.js');
const k8s = require('@kubernetes/client-node');

const NS = 'javascript';
const kc = new k8s.KubeConfig();
kc.loadFromFile(process.argv[2]);

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
async function until(seconds, what, probe) {
    const end = Date.now() + seconds * 1000;
    for (;;) {
        const result = await probe();
        if (result) return result;
        if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
        await sleep(50);
    }
}
function check(condition, what) {
    if (!condition) throw new Error(what);
}

// ---- HTTP/2: one session for everything ----
let session, streams = 0;
async function open() {
    if (session && !session.closed && !session.destroyed) return session;
    const options = {};
    await kc.applyToHTTPSOptions(options);
    session = http2.connect(kc.getCurrentCluster().server, { ca: options.ca, cert: options.cert, key: options.key });
    session.on('error', () => {});
    await new Promise((done, fail) => { session.once('connect', done); session.once('error', fail); });
    check(session.alpnProtocol === 'h2', `the server chose ${session.alpnProtocol}`);
    return session;
}

async function ask(method, path, headers, body) {
    const s = await open();
    streams++;
    const stream = s.request({ ':method': method, ':path': path, ...headers });
    stream.setEncoding('utf8');
    const head = new Promise((done, fail) => { stream.once('response', done); stream.once('error', fail); });
    if (body !== undefined) stream.end(body); else stream.end();
    return { stream, headers: await head };
}

class Http2Library {
    async send(request) {
        const url = new URL(request.getUrl());
        const drop = ['host', 'connection', 'content-length', 'transfer-encoding'];
        const headers = Object.fromEntries(Object.entries(request.getHeaders()).map(([k, v]) => [k.toLowerCase(), v])
            .filter(([k]) => !drop.includes(k)));
        const { stream, headers: got } = await ask(request.getHttpMethod().toString(), url.pathname + url.search, headers, request.getBody());
        let text = '';
        for await (const piece of stream) text += piece;
        return new k8s.ResponseContext(got[':status'], got, { text: async () => text, binary: async () => Buffer.from(text) });
    }
}

/* What makeInformer() wants of a watch. */
class Http2Watch {
    async watch(path, query, callback, done) {
        const q = new URLSearchParams({ watch: 'true' });
        for (const [k, v] of Object.entries(query ?? {})) if (v !== undefined) q.set(k, String(v));
        const { stream, headers } = await ask('GET', `${path}?${q}`, { accept: 'application/json' });
        let rest = '', ended = false;
        const end = (err) => { if (!ended) { ended = true; done(err); } };
        if (headers[':status'] !== 200) {
            const e = new Error(`status ${headers[':status']}`);
            e.statusCode = headers[':status'];
            stream.close();
            end(e);
        }
        stream.on('data', (piece) => {
            const lines = (rest + piece).split('\n');
            rest = lines.pop();
            for (const line of lines) {
                const event = JSON.parse(line);
                callback(event.type, event.object, event);
            }
        });
        stream.on('error', end);
        stream.on('close', () => end(null));
        return { abort: () => stream.close() };
    }
}

const core1 = kc.makeApiClient(k8s.CoreV1Api);
const core2 = new k8s.CoreV1Api(k8s.createConfiguration({
    baseServer: new k8s.ServerConfiguration(kc.getCurrentCluster().server, {}), httpApi: k8s.wrapHttpLibrary(new Http2Library()),
    authMethods: { default: { getName: () => 'none', applySecurityAuthentication: async () => {} } } }));
const configMap = (name, data) => ({ metadata: { name, labels: { suite: 'js' } }, data });

async function followed(core, watch, title) {
    const path = `/api/v1/namespaces/${NS}/configmaps`, prefix = title;
    for (let i = 0; i < 3; i++) await core.createNamespacedConfigMap({ namespace: NS, body: configMap(`${prefix}-${i}`, { n: '0' }) });
    const list = () => core.listNamespacedConfigMap({ namespace: NS, labelSelector: 'suite=js' });
    const informer = watch ? new k8s.ListWatch(path, watch, list, false, 'suite=js') : k8s.makeInformer(kc, path, list, 'suite=js');
    const count = { add: 0, update: 0, delete: 0 };
    for (const verb of Object.keys(count)) informer.on(verb, () => count[verb]++);
    let stopped = false;
    informer.on('error', () => { if (!stopped) setTimeout(() => informer.start(), 100); });
    await informer.start();
    await until(10, 'the first objects', () => count.add >= 3);
    for (let n = 1; n <= 20; n++)
        await core.replaceNamespacedConfigMap({ name: `${prefix}-${n % 3}`, namespace: NS, body: configMap(`${prefix}-${n % 3}`, { n: String(n) }) });
    await core.deleteNamespacedConfigMap({ name: `${prefix}-0`, namespace: NS });
    await until(10, `20 updates and a deletion, seen ${JSON.stringify(count)}`, () => count.update >= 20 && count.delete >= 1);
    const truth = (await list()).items.map((o) => `${o.metadata.name}=${o.data.n}`).sort().join();
    const cache = informer.list(NS).map((o) => `${o.metadata.name}=${o.data.n}`).sort().join();
    stopped = true;
    await informer.stop();
    check(cache === truth, `the cache has ${cache}, the server ${truth}`);
    check(count.update === 20 && count.delete === 1, `counts ${JSON.stringify(count)}`);
    await core.deleteCollectionNamespacedConfigMap({ namespace: NS, labelSelector: 'suite=js' });
}

const cases = {
    async 'typed objects are made, patched and deleted'() {
        const made = await core1.createNamespacedConfigMap({ namespace: NS, body: configMap('typed', { a: '1' }) });
        check(made.metadata.creationTimestamp instanceof Date && made.metadata.uid, 'what came back is not typed');
        const patched = await core1.patchNamespacedConfigMap({ name: 'typed', namespace: NS, body: [{ op: 'add', path: '/data/b', value: '2' }] },
            k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.JsonPatch));
        check(patched.data.b === '2', 'the JSON patch is not there');
        await core1.deleteNamespacedConfigMap({ name: 'typed', namespace: NS });
        try {
            await core1.readNamespacedConfigMap({ name: 'typed', namespace: NS });
        } catch (e) {
            check(e.code === 404 && JSON.parse(e.body).reason === 'NotFound', `read after delete: ${e.code} ${e.body}`);
            return;
        }
        throw new Error('it is still there');
    },
    async 'an informer follows over HTTP/1.1'() { await followed(core1, null, 'one'); },
    async 'an informer follows over HTTP/2'() {
        const before = streams;
        await followed(core2, new Http2Watch(), 'two');
        check(streams - before > 25, 'the requests did not go over HTTP/2');
    },
    async 'fifty informers share one HTTP/2 connection'() {
        let events = 0;
        const all = [];
        for (let i = 0; i < 50; i++) {
            const one = new k8s.ListWatch(`/api/v1/namespaces/${NS}/configmaps`, new Http2Watch(),
                () => core2.listNamespacedConfigMap({ namespace: NS, labelSelector: 'suite=js' }), false, 'suite=js');
            one.on('add', () => events++);
            all.push(one);
        }
        await Promise.all(all.map((x) => x.start()));
        await core2.createNamespacedConfigMap({ namespace: NS, body: configMap('for-all', {}) });
        await until(10, `50 notifications, seen ${events}`, () => events >= 50);
        await Promise.all(all.map((x) => x.stop()));
        check(events === 50, `${events} notifications`);
        await core2.deleteCollectionNamespacedConfigMap({ namespace: NS, labelSelector: 'suite=js' });
    },
    async 'the object API creates, applies and deletes any kind'() {
        const api = k8s.KubernetesObjectApi.makeApiClient(kc);
        const role = { apiVersion: 'rbac.authorization.k8s.io/v1', kind: 'Role', metadata: { name: 'any', namespace: NS },
            rules: [{ apiGroups: [''], resources: ['pods'], verbs: ['get'] }] };
        await api.create(role);
        role.rules[0].verbs.push('list');
        const applied = await api.patch(role, undefined, undefined, 'js', true, k8s.PatchStrategy.ServerSideApply);
        check(applied.rules[0].verbs.length === 2, 'apply did not change it');
        check(applied.metadata.managedFields.some((m) => m.manager === 'js' && m.operation === 'Apply'), 'no manager is recorded');
        await api.delete(role);
    },
    async 'custom objects of KubeVirt are served'() {
        if (!process.env.VIREO_KUBEVIRT) return 'no KubeVirt kinds on this server';
        const api = kc.makeApiClient(k8s.CustomObjectsApi), at = { group: 'kubevirt.io', version: 'v1', namespace: NS, plural: 'virtualmachines' };
        await api.createNamespacedCustomObject({ ...at, body: { apiVersion: 'kubevirt.io/v1', kind: 'VirtualMachine', metadata: { name: 'halted' },
            spec: { runStrategy: 'Halted', template: { spec: { domain: { devices: {}, memory: { guest: '64Mi' } } } } } } });
        await until(10, 'Stopped', async () => (await api.getNamespacedCustomObject({ ...at, name: 'halted' })).status?.printableStatus === 'Stopped');
        await api.deleteNamespacedCustomObject({ ...at, name: 'halted' });
    },
};

let failed = 0;
await core1.createNamespace({ body: { metadata: { name: NS } } });
for (const [title, fn] of Object.entries(cases)) {
    try {
        const skipped = await fn();
        console.log(skipped ? `skip JavaScript client: ${title}: ${skipped}` : `ok   JavaScript client: ${title}`);
    } catch (e) {
        failed++;
        console.log(`FAIL JavaScript client: ${title}: ${String(e.message).replaceAll('\n', ' ').slice(0, 600)}`);
    }
}
await core1.deleteNamespace({ name: NS });
session?.destroy();
process.exit(failed ? 1 : 0);
