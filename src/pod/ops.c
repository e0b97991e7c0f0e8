#include "pod/internal.h"

#include "base/alloc.h"

struct op {
    struct list node;
    struct pod *p; /* NULL: abandoned */
    void *arg;
    struct client_call *call;
    pod_answer_fn fn;
};

struct op *op_new(struct pod *p, void *arg)
{
    struct op *o = NEW(struct op);

    o->p = p;
    o->arg = arg;
    list_add_tail(&p->ops, &o->node);
    p->n_ops++;
    return o;
}

struct pod *op_end(struct op *o, void **ret_arg)
{
    struct pod *p = o->p;

    if (ret_arg)
        *ret_arg = o->arg;
    if (p) {
        list_remove(&o->node);
        p->n_ops--;
    }
    free(o);
    return p;
}

static void answered(void *user, const struct client_response *r)
{
    struct op *o = user;
    pod_answer_fn fn = o->fn;
    void *arg;
    struct pod *p = op_end(o, &arg);

    fn(p, arg, r);
    pod_step_soon(p);
}

void pod_call(struct pod *p, const struct client_request *q, pod_answer_fn fn, void *arg)
{
    struct op *o = op_new(p, arg);

    o->fn = fn;
    o->call = client_call(p->r->client, q, answered, o);
}

void ops_abandon(struct pod *p)
{
    list_each_safe(it, &p->ops) {
        struct op *o = list_entry(it, struct op, node);

        list_remove(&o->node);
        o->p = NULL;
        if (o->call) {
            client_cancel(p->r->client, o->call);
            free(o);
        } /* others come back to op_end() */
    }
    p->n_ops = 0;
}
