/* A KubeVirt object that lies in a ConfigMap.
 *
 * kubectl looks up every kind of a command line before it sends anything, so `kubectl apply -f vireo-operator.yaml -f vireo-cr.yaml` on a
 * cluster that has never heard of KubeVirt cannot name one. deploy/vireo-cr.yaml therefore brings it as text in a ConfigMap, and the operator
 * applies it once for each text: the object belongs to the ConfigMap (who deletes that, deletes it), and who deletes the object itself
 * does not get it back. */
#include "api/meta.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "json/yaml.h"
#include "operator/internal.h"

#define ANNOTATION_APPLIED "vireo.io/applied" /* hash of the text that has become an object */

bool cr_read(const struct json *config_map, const char *ns, struct arena *a, const struct json **ret, struct error *err)
{
    struct str text = json_str(json_get(json_get(config_map, "data"), CR_KEY)), in;
    const struct json *kubevirt;

    if (!text.n)
        return error_set(err, ERROR_INVALID, "ConfigMap " CR_CONFIG_MAP " has no data." CR_KEY);
    if (!yaml_parse_one(text, a, &kubevirt, err))
        return error_wrap(err, "ConfigMap " CR_CONFIG_MAP ", " CR_KEY);
    in = meta_namespace(kubevirt);
    if (!str_is(meta_kind(kubevirt), "KubeVirt") || !str_is(meta_api_version(kubevirt), "kubevirt.io/v1")
        || !meta_name(kubevirt).n)
        return error_set(err, ERROR_INVALID,
                         "ConfigMap " CR_CONFIG_MAP ", " CR_KEY ": is no KubeVirt object of kubevirt.io/v1 with a name");
    if (in.n && !str_is(in, ns))
        return error_set(err, ERROR_INVALID,
                         "ConfigMap " CR_CONFIG_MAP ", " CR_KEY ": its namespace has to be that of the operator, %s", ns);
    kubevirt = json_with_at(a, kubevirt, "metadata/namespace", json_new_z(a, ns));
    kubevirt = json_with_at(
        a, kubevirt, "metadata/ownerReferences",
        json_array(a,
                   json_object(a, "apiVersion", json_new_z(a, "v1"), "kind", json_new_z(a, "ConfigMap"), "name",
                               json_at(config_map, "metadata/name"), "uid", json_at(config_map, "metadata/uid"), NULL),
                   NULL));
    *ret = json_with(a, kubevirt, "status", NULL);
    return true;
}

bool cr_make(struct operator* o, const struct json *kubevirt, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *cm = informer_get(o->config_map, str_of(arena_printf(a, "%s/" CR_CONFIG_MAP, o->config.env.ns)), a),
                      *object;
    struct str hash;

    if (!cm || meta_deleting(cm) || (kubevirt && meta_deleting(kubevirt)))
        return false;
    hash = component_hash(a, json_get(cm, "data"));
    if (str_eq(meta_annotation(cm, ANNOTATION_APPLIED), hash))
        return false;
    if (!cr_read(cm, o->config.env.ns, a, &object, &err)) {
        if (!o->cr_said || strcmp(o->cr_said, error_text(&err)) != 0) {
            free(o->cr_said);
            o->cr_said = str_dup(str_of(error_text(&err)));
            log_error("kubevirt", "%s", error_text(&err));
            recorder_event(o->recorder, cm, "Warning", "InvalidKubeVirt", "%s", error_text(&err));
        }
        return false;
    }
    /* First the object, then the note that it is there: a repeat does no harm. */
    if (kubevirt && str_eq(meta_name(kubevirt), meta_name(object))
        && str_eq(meta_annotation(kubevirt, ANNOTATION_APPLIED), hash))
        act_note(o, cm, meta_with_annotation(a, cm, ANNOTATION_APPLIED, hash));
    else
        act_cr(o, meta_with_annotation(a, object, ANNOTATION_APPLIED, hash));
    return true;
}

void cr_gone(struct operator* o, const struct json *kubevirt, struct arena *a)
{
    const struct json *cm = informer_get(o->config_map, str_of(arena_printf(a, "%s/" CR_CONFIG_MAP, o->config.env.ns)), a);

    if (cm && !meta_deleting(cm) && meta_owned_by(kubevirt, meta_uid(cm)))
        act_delete_config_map(o, cm);
}
