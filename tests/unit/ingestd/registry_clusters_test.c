#include "registry_rig.h"

static void a_cluster_with_members_is_not_deleted(void **state) {
    fixture *f = *state;
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_client(f, "c", "k"), TOB_OK);
    assert_int_equal(add_headend(f, "h", "k"), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_cluster(f->registry, "k")), TOB_PRECONDITION);
    assert_string_equal(tob_registry_last_problem(f->registry), "clients belong to cluster k");
    assert_int_equal(CHANGE(f, tob_registry_delete_client(f->registry, "c", false)), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_cluster(f->registry, "k")), TOB_PRECONDITION);
    assert_string_equal(tob_registry_last_problem(f->registry), "headends belong to cluster k");
    assert_int_equal(CHANGE(f, tob_registry_delete_headend(f->registry, "h")), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_delete_cluster(f->registry, "k")), TOB_OK);
}

static void a_revoked_cluster_gets_no_new_clients(void **state) {
    fixture *f = *state;
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_client(f, "before", "k"), TOB_OK);
    assert_int_equal(add_client(f, "elsewhere", ""), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_revoke_cluster(f->registry, "k")), TOB_OK);
    assert_int_equal(add_client(f, "after", "k"), TOB_PRECONDITION);
    assert_string_equal(tob_registry_last_problem(f->registry), "cluster k is revoked");
    tob_registry_client c = a_client("elsewhere", "k");
    assert_int_equal(CHANGE(f, tob_registry_update_client(f->registry, &c)), TOB_PRECONDITION);
    c.id = "before"; // stays where it is
    assert_int_equal(CHANGE(f, tob_registry_update_client(f->registry, &c)), TOB_OK);
    uint64_t clusters = 1;
    assert_int_equal(tob_registry_count_clusters(f->registry, &clusters), TOB_OK);
    assert_int_equal(clusters, 0);
}

static void a_heartbeat_is_kept_without_a_change(void **state) {
    fixture *f = *state;
    cluster_copy copy;
    uint64_t change = 0, forgotten = 0;
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_string_equal(tob_registry_cluster_status(&(tob_registry_cluster){.id = "k"}, T0), "active");
    assert_int_equal(tob_registry_heartbeat_cluster(f->registry, "k", 42, T0 + 9), TOB_OK);
    tob_registry_cluster k = get_cluster(f, "k", &copy);
    assert_int_equal(k.heartbeat_unix_ms, T0 + 9);
    assert_int_equal(k.client_count, 42);
    assert_string_equal(tob_registry_cluster_status(&k, T0), "active"); // the clock went back
    assert_string_equal(tob_registry_cluster_status(&k, T0 + 9 + TOB_CLUSTER_SILENT_MS), "active");
    assert_string_equal(tob_registry_cluster_status(&k, T0 + 10 + TOB_CLUSTER_SILENT_MS), "silent");
    assert_int_equal(tob_registry_last_change(f->registry, &change, &forgotten), TOB_OK);
    assert_int_equal(change, f->change);
    assert_int_equal(tob_registry_heartbeat_cluster(f->registry, "l", 42, T0), TOB_NOT_FOUND);
    assert_int_equal(CHANGE(f, tob_registry_revoke_cluster(f->registry, "k")), TOB_OK);
    assert_int_equal(tob_registry_heartbeat_cluster(f->registry, "k", 43, T0), TOB_PRECONDITION);
    k = get_cluster(f, "k", &copy);
    assert_int_equal(k.client_count, 42);
    assert_string_equal(tob_registry_cluster_status(&k, T0), "revoked");
}

static tob_error count_members(void *user, const tob_registry_client *client) {
    uint64_t *counts = user; // of "k0", "k1", "k2"
    if (client->cluster_id[0] && !client->revoked_unix_ms) {
        counts[client->cluster_id[1] - '0']++;
    }
    return TOB_OK;
}

static void check_counts(fixture *f) {
    static const char *const ids[] = {"k0", "k1", "k2"};
    uint64_t counts[3] = {0, 0, 0};
    cluster_copy copy;
    assert_int_equal(tob_registry_list_clients(f->registry, "", UINT32_MAX, count_members, counts), TOB_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(get_cluster(f, ids[i], &copy).registered_clients, counts[i]);
    }
}

static void registered_clients_is_always_what_a_count_would_find(void **state) {
    fixture *f = *state;
    static const char *const clusters[] = {"k0", "k1", "k2", ""};
    uint32_t random = 12345;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(add_cluster(f, clusters[i]), TOB_OK);
    }
    for (int i = 0; i < 300; i++) {
        random = random * 1664525u + 1013904223u; // Numerical Recipes' generator
        const char *cluster = clusters[random >> 30];
        char id[8];
        snprintf(id, sizeof(id), "c%u", (random >> 20) % 12);
        tob_registry_client c = a_client(id, cluster);
        uint32_t act = (random >> 10) % 8;
        tob_error err = act < 3   ? CHANGE(f, tob_registry_add_client(f->registry, &c))
                        : act < 5 ? CHANGE(f, tob_registry_update_client(f->registry, &c))
                        : act < 6 ? CHANGE(f, tob_registry_revoke_client(f->registry, id))
                                  : CHANGE(f, tob_registry_delete_client(f->registry, id, act == 7));
        assert_true(err == TOB_OK || err == TOB_ALREADY_EXISTS || err == TOB_NOT_FOUND);
        if (i % 10 == 9) {
            check_counts(f);
        }
    }
}

static tob_error add_place(fixture *f, const char *id, const char *region, const char *datacenter,
                           const char *url) {
    tob_registry_cluster cluster = a_cluster(id);
    cluster.region = region;
    cluster.datacenter = datacenter;
    cluster.headend_url = url;
    return CHANGE(f, tob_registry_add_cluster(f->registry, &cluster));
}

static const char *place(fixture *f, const char *location, uint64_t now) {
    static char text[sizeof(((words *)0)->text)];
    words w = {.count = 0};
    tob_error err = tob_registry_place_client(f->registry, location, now, note_cluster, &w);
    snprintf(text, sizeof(text), "%s", err ? tob_error_string(err) : w.text);
    return text;
}

static void placing_prefers_the_location_then_few_clients_then_the_id(void **state) {
    fixture *f = *state;
    assert_string_equal(place(f, "", T0), "not found");
    assert_int_equal(add_place(f, "silent", "EU-west", "ams1", "https://s"), TOB_OK);
    assert_int_equal(tob_registry_heartbeat_cluster(f->registry, "silent", 1, T0 - TOB_CLUSTER_SILENT_MS - 1),
                     TOB_OK);
    assert_int_equal(add_place(f, "no-url", "EU-west", "ams1", ""), TOB_OK);
    assert_int_equal(add_place(f, "revoked", "EU-west", "ams1", "https://r"), TOB_OK);
    assert_int_equal(CHANGE(f, tob_registry_revoke_cluster(f->registry, "revoked")), TOB_OK);
    assert_string_equal(place(f, "EU-west", T0), "not found");
    assert_int_equal(add_place(f, "b", "EU-west", "ams1", "https://b"), TOB_OK);
    assert_int_equal(add_place(f, "c", "eu-west", "fra1", "https://c"), TOB_OK);
    assert_int_equal(add_place(f, "a", "us", "nyc1", "https://a"), TOB_OK);
    assert_int_equal(tob_registry_heartbeat_cluster(f->registry, "c", 1, T0 - TOB_CLUSTER_SILENT_MS), TOB_OK);
    assert_string_equal(place(f, "", T0), "a ");
    assert_string_equal(place(f, "mars", T0), "a ");
    assert_string_equal(place(f, "eu-WEST", T0), "b ");
    assert_string_equal(place(f, "FRA1", T0), "c ");
    assert_int_equal(add_client(f, "x", "b"), TOB_OK);
    assert_string_equal(place(f, "eu-west", T0), "c ");
    assert_int_equal(add_client(f, "y", "a"), TOB_OK);
    assert_string_equal(place(f, "", T0), "c ");
    assert_int_equal(add_client(f, "z", "c"), TOB_OK);
    assert_string_equal(place(f, "", T0), "a ");
    assert_int_equal(CHANGE(f, tob_registry_revoke_client(f->registry, "x")), TOB_OK);
    assert_string_equal(place(f, "", T0), "b ");
    assert_string_equal(place(f, "%", T0), "b "); // no pattern
    // Letters beyond ASCII are compared as they are, on both engines.
    assert_int_equal(add_place(f, "m", "MÜNCHEN", "m1", "https://m"), TOB_OK);
    assert_int_equal(add_client(f, "w", "m"), TOB_OK);
    assert_string_equal(place(f, "mÜnchen", T0), "m ");
    assert_string_equal(place(f, "münchen", T0), "b ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_cluster_with_members_is_not_deleted),
        TEST(a_revoked_cluster_gets_no_new_clients),
        TEST(a_heartbeat_is_kept_without_a_change),
        TEST(registered_clients_is_always_what_a_count_would_find),
        TEST(placing_prefers_the_location_then_few_clients_then_the_id),
    };
    return RUN_ON_BOTH("registry_clusters", tests);
}
