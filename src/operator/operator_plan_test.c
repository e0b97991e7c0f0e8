#include "json/json_test.h"

#include "operator/operator_plan.h"

/* What is there, one letter for each stage in the order crd, base, api, admission, controller, handler:
 *   - absent   d differs   s same, but not ready   r same and ready   h held   f foreign
 * and what is done: the same with A where it is applied. */
static const struct {
    const char *name;
    enum rollout rollout;
    const char *live, *want;
} rows[] = {
    {"an empty cluster: definitions first", ROLLOUT_INSTALL, "------", "A....."},
    {"nothing without the definitions", ROLLOUT_INSTALL, "s-----", "......"},
    {"then what has no processes", ROLLOUT_INSTALL, "r-----", ".A...."},
    {"then virt-api", ROLLOUT_INSTALL, "rr----", "..A..."},
    {"webhooks wait for it", ROLLOUT_INSTALL, "rrs---", "......"},
    {"and come when it is ready", ROLLOUT_INSTALL, "rrr---", "...A.."},
    {"controllers and agents after them", ROLLOUT_INSTALL, "rrrr--", "....AA"},
    {"APIServices that do not answer hold them back", ROLLOUT_INSTALL, "rrrs--", "......"},
    {"all is there", ROLLOUT_INSTALL, "rrrrss", "...... created"},
    {"all is ready", ROLLOUT_INSTALL, "rrrrrr", "...... created ready"},
    {"an upgrade begins with the definitions", ROLLOUT_UPGRADE, "dddddd", "A....."},
    {"agents first", ROLLOUT_UPGRADE, "rrdddd", ".....A"},
    {"controllers when all agents are new", ROLLOUT_UPGRADE, "rrddds", "......"},
    {"controllers next", ROLLOUT_UPGRADE, "rrdddr", "....A."},
    {"virt-api last", ROLLOUT_UPGRADE, "rrddrr", "..A..."},
    {"webhooks only to the new virt-api", ROLLOUT_UPGRADE, "rrsdrr", "......"},
    {"webhooks", ROLLOUT_UPGRADE, "rrrdrr", "...A.."},
    {"an upgrade is through", ROLLOUT_UPGRADE, "rrrrrr", "...... created ready"},
    {"repairs wait for nobody", ROLLOUT_NONE, "dd-dsd", "AAAA.A"},
    {"a repair is not waited for by others", ROLLOUT_NONE, "rrsrr-", ".....A"},
    {"what others fight for is left alone, and holds nobody", ROLLOUT_INSTALL, "rhrr--", "....AA"},
    {"somebody else's object stops everything", ROLLOUT_INSTALL, "--f---", "...... foreign"},
    {"also when it is one of many", ROLLOUT_UPGRADE, "ddddfd", "...... foreign"},
    {"also in repairs", ROLLOUT_NONE, "ddf-dd", "...... foreign"},
};

static const char *plan_text(struct arena *a, enum rollout rollout, const char *live_text)
{
    struct component p[STAGES] = {0};
    struct components all = {p, STAGES};
    struct live live[STAGES] = {0};
    struct install_plan plan;
    char done[STAGES + 1] = "......";

    for (size_t i = 0; i < STAGES; i++) {
        char c = live_text[i];

        p[i].stage = (enum stage)i;
        p[i].title = arena_printf(a, "x%zu", i);
        live[i].state = c == '-' ? LIVE_ABSENT : c == 'd' || c == 'h' ? LIVE_DIFFERS : c == 'f' ? LIVE_FOREIGN : LIVE_SAME;
        live[i].ready = c == 'r' || c == 'h' || c == 'd';
        live[i].held = c == 'h';
    }
    install_make_plan(&(struct install_view){&all, live, rollout}, a, &plan);
    for (size_t i = 0; i < plan.n_apply; i++)
        done[plan.apply[i]] = 'A';
    return arena_printf(a, "%s%s%s%s", done, plan.created && !plan.foreign ? " created" : "",
                        plan.ready && !plan.foreign ? " ready" : "", plan.foreign ? " foreign" : "");
}

static void installing_and_upgrading_in_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(arena_done) struct arena a = {0};
        const char *got = plan_text(&a, rows[i].rollout, rows[i].live);

        if (strcmp(got, rows[i].want) != 0)
            fail_msg("%s: %s: %s", rows[i].name, rows[i].live, got);
    }
}

static void what_is_in_the_way_is_named(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct component p[2] = {{.title = "CustomResourceDefinition virtualmachines.kubevirt.io"},
                             {.title = "Deployment kubevirt/virt-api"}};
    struct live live[2] = {{.state = LIVE_FOREIGN, .owner = "app.kubernetes.io/managed-by=virt-operator"},
                           {.state = LIVE_FOREIGN}};
    struct components all = {p, 2};
    struct install_plan plan;

    (void)state;
    install_make_plan(&(struct install_view){&all, live, ROLLOUT_INSTALL}, &a, &plan);
    assert_string_equal(plan.foreign,
                        "CustomResourceDefinition virtualmachines.kubevirt.io (app.kubernetes.io/managed-by=virt-operator), "
                        "Deployment kubevirt/virt-api (unmarked)");
    assert_int_equal(plan.n_apply, 0);
}

static void why_it_is_not_ready(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct component p[2] = {{.title = "Deployment kubevirt/virt-api", .stage = STAGE_API},
                             {.title = "DaemonSet kubevirt/virt-handler", .stage = STAGE_HANDLER}};
    struct live live[2] = {{.state = LIVE_SAME}, {.state = LIVE_SAME, .why = "pod x: ImagePullBackOff: no such image"}};
    struct components all = {p, 2};
    struct install_plan plan;

    (void)state;
    install_make_plan(&(struct install_view){&all, live, ROLLOUT_NONE}, &a, &plan);
    assert_string_equal(plan.waiting_for, "Deployment kubevirt/virt-api");
    assert_string_equal(plan.trouble, "DaemonSet kubevirt/virt-handler: pod x: ImagePullBackOff: no such image");
}

static void which_way_from_version_to_version(void **state)
{
    static const struct {
        const char *from_id, *from, *to;
        enum rollout want;
    } ways[] = {
        {"", "", "v1.0.0", ROLLOUT_INSTALL},          {"same", "v1.0.0", "v1.0.0", ROLLOUT_NONE},
        {"old", "v1.0.0", "v1.1.0", ROLLOUT_UPGRADE}, {"old", "v1.1.0", "v1.0.0", ROLLOUT_INSTALL},
        {"old", "v1.1.0", "v1.1.0", ROLLOUT_INSTALL}, {"old", "latest", "devel", ROLLOUT_UPGRADE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
        assert_int_equal(rollout_of(str_of(ways[i].from_id), STR("same"), str_of(ways[i].from), str_of(ways[i].to)),
                         ways[i].want);
}

/* Kinds by letter: w webhook, s APIService, c CRD, d Deployment, h DaemonSet, b PDB, r role, x Secret; upper case: being deleted. */
static const struct {
    const char *items;
    bool workloads, remove_workloads;
    const char *want; /* what is deleted, or a word */
} removals[] = {
    {"wscdhbrx", false, false, "ws"},     {"Wscdhbrx", false, false, "s"},    {"WScdhbrx", false, false, ""},
    {"cdhbrx", false, false, "c"},        {"Cdhbrx", false, false, ""},       {"dhbrx", false, false, "dhb"},
    {"DHrx", false, false, ""},           {"rx", false, false, "rx"},         {"", false, false, "done"},
    {"wscdhbrx", true, false, "blocked"}, {"cdhbrx", true, false, "blocked"}, {"wscdhbrx", true, true, "ws"},
    {"cdhbrx", true, true, "c"},          {"dhbrx", true, false, "dhb"},
};

static enum managed_id kind_of(char c)
{
    switch (c | 0x20) {
    case 'w':
        return MANAGED_VALIDATING;
    case 's':
        return MANAGED_API_SERVICE;
    case 'c':
        return MANAGED_CRD;
    case 'd':
        return MANAGED_DEPLOYMENT;
    case 'h':
        return MANAGED_DAEMON_SET;
    case 'b':
        return MANAGED_PDB;
    case 'r':
        return MANAGED_CLUSTER_ROLE;
    }
    return MANAGED_SECRET;
}

static void removing_in_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(removals); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct removal_item items[16];
        struct removal_view v = {.items = items,
                                 .n = strlen(removals[i].items),
                                 .workloads = removals[i].workloads ? "VirtualMachine a/b" : NULL,
                                 .remove_workloads = removals[i].remove_workloads};
        struct removal_plan p;
        char got[17] = "";

        for (size_t k = 0; k < v.n; k++)
            items[k] = (struct removal_item){kind_of(removals[i].items[k]), removals[i].items[k] < 'a', "x"};
        removal_make_plan(&v, &a, &p);
        for (size_t k = 0; k < p.n_remove; k++)
            got[k] = removals[i].items[p.remove[k]];
        if (p.blocked || p.done)
            assert_int_equal(p.n_remove, 0);
        if (strcmp(p.blocked ? "blocked" : p.done ? "done" : got, removals[i].want) != 0)
            fail_msg("%s: %s", removals[i].items, got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(installing_and_upgrading_in_order),
        cmocka_unit_test(what_is_in_the_way_is_named),
        cmocka_unit_test(why_it_is_not_ready),
        cmocka_unit_test(which_way_from_version_to_version),
        cmocka_unit_test(removing_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
