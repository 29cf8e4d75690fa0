#include "registry_rig.h"

static void every_act_is_in_the_audit_log_with_who_and_when(void **state) {
    fixture *f = *state;
    char text[512];
    f->now_unix_ms = T0 + 5;
    assert_int_equal(add_cluster(f, "k"), TOB_OK);
    assert_int_equal(add_client(f, "c", "k"), TOB_OK);
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "", 0, 1, copy_entry, text), TOB_OK);
    assert_string_equal(text, "admin ann|192.0.2.7|client.add|c|k|1700000000005");
    tob_registry_client c = a_client("c", "");
    c.name = "other";
    f->now_unix_ms = T0 + 6;
    assert_int_equal(CHANGE(f, tob_registry_update_client(f->registry, &c)), TOB_OK);
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "", 0, 1, copy_entry, text), TOB_OK);
    assert_string_equal(text, "admin ann|192.0.2.7|client.update|c|name, cluster_id|1700000000006");
}

static tob_error see_number(void *user, const tob_registry_audit_entry *entry) {
    *(uint64_t *)user = entry->number;
    return TOB_OK;
}

static void the_audit_log_is_read_backwards_a_page_at_a_time(void **state) {
    fixture *f = *state;
    static const char *const ids[] = {"a", "b", "c", "d"};
    words all = {.count = 0}, page = {.count = 0}, of = {.count = 0}, since = {.count = 0};
    uint64_t number = 0;
    for (size_t i = 0; i < 4; i++) {
        f->now_unix_ms = T0 + i;
        assert_int_equal(add_client(f, ids[i], ""), TOB_OK);
    }
    assert_int_equal(CHANGE(f, tob_registry_revoke_client(f->registry, "b")), TOB_OK);
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "", 0, 10, note_audit, &all), TOB_OK);
    assert_string_equal(all.text, "client.revoke:b client.add:d client.add:c client.add:b client.add:a ");
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "", 0, 2, see_number, &number), TOB_OK);
    assert_int_equal(tob_registry_list_audit(f->registry, number, "", 0, 2, note_audit, &page), TOB_OK);
    assert_string_equal(page.text, "client.add:c client.add:b ");
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "b", 0, 10, note_audit, &of), TOB_OK);
    assert_string_equal(of.text, "client.revoke:b client.add:b ");
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "", T0 + 2, 10, note_audit, &since),
                     TOB_OK);
    assert_string_equal(since.text, "client.revoke:b client.add:d client.add:c ");
}

static void the_database_itself_refuses_to_change_the_audit_log(void **state) {
    fixture *f = *state;
    words audit = {.count = 0};
    assert_int_equal(add_client(f, "a", ""), TOB_OK);
    static const char update[] = "UPDATE audit SET who = 'nobody'";
    static const char delete[] = "DELETE FROM audit";
    static const char truncate[] = "TRUNCATE audit";
    tob_sql *sql = tob_registry_sql(f->registry);
    assert_int_equal(tob_sql_run(sql, update, NULL, 0, NULL, NULL, NULL), TOB_PRECONDITION);
    assert_non_null(strstr(tob_sql_problem(sql), "append-only"));
    assert_int_equal(tob_sql_run(sql, delete, NULL, 0, NULL, NULL, NULL), TOB_PRECONDITION);
    if (!on_sqlite(f)) {
        assert_int_equal(tob_sql_run(sql, truncate, NULL, 0, NULL, NULL, NULL), TOB_PRECONDITION);
    }
    assert_int_equal(tob_registry_list_audit(f->registry, UINT64_MAX, "", 0, 10, note_audit, &audit), TOB_OK);
    assert_string_equal(audit.text, "client.add:a ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(every_act_is_in_the_audit_log_with_who_and_when),
        TEST(the_audit_log_is_read_backwards_a_page_at_a_time),
        TEST(the_database_itself_refuses_to_change_the_audit_log),
    };
    return RUN_ON_BOTH("registry_audit", tests);
}
