// Commands that serve every kind of thing, and what they send: updates, pages, certificates' files.
// cmocka.h needs the four before it.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <limits.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "tobogganing/v1/certificates.pb-c.h"
#include "tobogganing/v1/registry.pb-c.h"

#include "ctl/file.h"
#include "rig.h"

enum { ENTRIES = 2500 };

static tob_rpc_server *server;
static char dir[] = "/tmp/tob-ctl-XXXXXX";
static char mask[256]; // of the last update, "name,location"
static atomic_int audit_calls;

static void on_update(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    const Tobogganing__V1__UpdateClientRequest *request =
        (const Tobogganing__V1__UpdateClientRequest *)message;
    Tobogganing__V1__Client client = TOBOGGANING__V1__CLIENT__INIT;
    if (!is_admin(call)) {
        return;
    }
    mask[0] = 0;
    for (size_t i = 0; i < request->n_update_mask; i++) {
        strcat(mask, i ? "," : "");
        strcat(mask, request->update_mask[i]);
    }
    client.client_id = request->client_id;
    client.name = request->name;
    client.location = request->location;
    client.created_unix_ms = 1700000000000;
    tob_rpc_reply(call, &client.base);
}

// ENTRIES entries, the newest first; `page` is the number of the last of the page before.
static void on_audit(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    const Tobogganing__V1__ListAuditRequest *request = (const Tobogganing__V1__ListAuditRequest *)message;
    Tobogganing__V1__ListAuditResponse response = TOBOGGANING__V1__LIST_AUDIT_RESPONSE__INIT;
    static Tobogganing__V1__AuditEntry entries[ENTRIES];
    static Tobogganing__V1__AuditEntry *pointers[ENTRIES];
    char next[16];
    uint64_t before = *request->page ? strtoull(request->page, NULL, 10) : ENTRIES + 1;
    if (!is_admin(call)) {
        return;
    }
    atomic_fetch_add(&audit_calls, 1);
    while (response.n_entries < request->page_size && response.n_entries + 1 < before) {
        size_t i = response.n_entries++;
        tobogganing__v1__audit_entry__init(&entries[i]);
        entries[i].number = before - 1 - i;
        entries[i].at_unix_ms = 1700000000000;
        entries[i].who = (char *)"admin ops";
        pointers[i] = &entries[i];
    }
    response.entries = pointers;
    snprintf(next, sizeof(next), "%llu", (unsigned long long)(before - response.n_entries));
    response.next_page = before - response.n_entries > 1 ? next : (char *)"";
    tob_rpc_reply(call, &response.base);
}

static void on_issue(tob_rpc_call *call, const ProtobufCMessage *message, void *user) {
    (void)user;
    const Tobogganing__V1__IssueCertificateRequest *request =
        (const Tobogganing__V1__IssueCertificateRequest *)message;
    Tobogganing__V1__IssuedCertificate issued = TOBOGGANING__V1__ISSUED_CERTIFICATE__INIT;
    Tobogganing__V1__Certificate certificate = TOBOGGANING__V1__CERTIFICATE__INIT;
    char subject[128];
    if (!is_admin(call)) {
        return;
    }
    snprintf(subject, sizeof(subject), "%s/%zu/%s/%u", request->subject, request->n_names,
             request->n_names ? request->names[request->n_names - 1] : "", request->order->validity_days);
    certificate.serial = (char *)"0abc";
    certificate.subject = subject;
    certificate.pem = (char *)"the certificate\n";
    issued.certificate = &certificate;
    issued.key = *request->order->csr ? (char *)"" : (char *)"the key\n";
    issued.ca = (char *)"the authority\n";
    tob_rpc_reply(call, &issued.base);
}

static int start(void **state) {
    (void)state;
    static const rig_method methods[] = {
        {&tobogganing__v1__registry__descriptor, "UpdateClient", on_update},
        {&tobogganing__v1__registry__descriptor, "ListAudit", on_audit},
        {&tobogganing__v1__certificates__descriptor, "Issue", on_issue},
    };
    server = rig_start(methods, sizeof(methods) / sizeof(methods[0]));
    assert_non_null(mkdtemp(dir));
    return 0;
}

static int stop(void **state) {
    (void)state;
    tob_rpc_server_stop(server);
    tob_rpc_server_free(server);
    return rmdir(dir); // every test leaves it empty
}

static int use(void **state) {
    (void)state;
    rig_use(server);
    return 0;
}

static const char *in_dir(const char *name) {
    static char paths[4][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, PATH_MAX, "%s/%s", dir, name);
    return path;
}

static const char *content_of(const char *path) {
    static char content[256];
    FILE *file = fopen(path, "r");
    content[file ? fread(content, 1, sizeof(content) - 1, file) : 0] = 0;
    if (file) {
        fclose(file);
    }
    return content;
}

static void an_update_names_what_was_given_and_only_that(void **state) {
    (void)state;
    assert_int_equal(run("client update laptop-7 --location Oslo --name Seven"), 0);
    assert_string_equal(mask, "name,location");
    assert_contains(out, "name                    Seven\n");
    assert_contains(out, "created                 2023-11-14T22:13:20Z\n");
    assert_int_equal(run("client update laptop-7 --cluster="), 0); // an empty text takes it away
    assert_string_equal(mask, "cluster_id");
    mask[0] = 0;
    assert_int_equal(run("client update laptop-7"), 2);
    assert_string_equal(err, "tobogganctl client update: nothing to change is given; see --help\n");
    assert_int_equal(run("client update --name x"), 2);
    assert_string_equal(mask, "");
}

static void the_newest_entries_are_shown_in_the_order_in_which_it_happened(void **state) {
    (void)state;
    audit_calls = 0;
    assert_int_equal(run("audit --json --limit 3"), 0);
    json_t *json = json_loads(out, 0, NULL);
    assert_int_equal(json_array_size(json), 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(json_integer_value(json_object_get(json_array_get(json, i), "number")),
                         ENTRIES - 2 + (int)i);
    }
    json_decref(json);
    assert_int_equal(audit_calls, 1); // it does not read what it does not show
    assert_int_equal(run("audit --limit 100001"), 2);
    assert_int_equal(run("audit --limit 0"), 2);
}

static void a_certificate_goes_where_it_is_told_to_and_the_key_where_nobody_else_reads(void **state) {
    (void)state;
    struct stat st;
    char words[PATH_MAX * 4];
    const char *crt = in_dir("c.crt"), *key = in_dir("c.key"), *ca = in_dir("ca.crt");
    snprintf(
        words, sizeof(words),
        "cert generate --type server --subject s --name a,b --days 30 --cert-out %s --key-out %s --ca-out %s",
        crt, key, ca);
    assert_int_equal(run(words), 0);
    assert_contains(out, "s/2/b/30 is issued, serial 0abc");
    assert_string_equal(content_of(crt), "the certificate\n");
    assert_string_equal(content_of(key), "the key\n");
    assert_string_equal(content_of(ca), "the authority\n");
    assert_int_equal(stat(key, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(run(words), 1);
    assert_contains(err, "c.key: exists; give another name, or --force to replace it");
    strcat(words, " --force");
    assert_int_equal(run(words), 0);
    assert_int_equal(stat(key, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(unlink(crt) | unlink(key) | unlink(ca), 0);
}

static void what_could_not_be_issued_leaves_no_files(void **state) {
    (void)state;
    char words[PATH_MAX * 3];
    setenv("ADMIN_TOKEN", "wrong", 1);
    snprintf(words, sizeof(words), "cert generate --type server --subject s --cert-out %s --key-out %s",
             in_dir("c"), in_dir("k"));
    assert_int_equal(run(words), 1);
    assert_int_equal(access(in_dir("c"), F_OK) & access(in_dir("k"), F_OK), -1);
    snprintf(words, sizeof(words), "cert generate --type server --subject s --cert-out %s --key-out %s",
             in_dir("c"), in_dir("no/such/k"));
    assert_int_equal(run(words), 1);
    assert_contains(err, "no/such/k: No such file or directory");
    assert_int_equal(access(in_dir("c"), F_OK), -1);
    snprintf(words, sizeof(words), "cert generate --type server --subject s --cert-out %s --key-out %s",
             in_dir("c"), in_dir("c"));
    assert_int_equal(run(words), 2); // one would replace the other
    assert_int_equal(run("cert generate --type server --subject s"), 2);
    assert_contains(err, "option --key-out: is needed");
    assert_int_equal(run("cert generate --type server --key-out -"), 2);
    assert_contains(err, "option --subject: is needed");
}

static void a_certificate_has_32_names_and_none_more(void **state) {
    (void)state;
    char words[512] = "cert generate --type server --subject s --key-out - --name n1";
    for (int i = 2; i <= 32; i++) {
        snprintf(words + strlen(words), sizeof(words) - strlen(words), ",n%d", i);
    }
    assert_int_equal(run(words), 0);
    assert_string_equal(out, "the key\nthe certificate\n");
    strcat(words, ",n33");
    assert_int_equal(run(words), 2);
    assert_contains(err, "option --name: has more than 32 names");
    assert_int_equal(run("cert generate --type server --subject s --key-out - --days 3651"), 2);
}

static void a_file_is_read_up_to_its_limit_and_no_byte_more(void **state) {
    (void)state;
    const char *path = in_dir("f");
    tob_buffer buffer;
    tob_ctl_outfile file;
    for (size_t n = 99; n <= 101; n++) {
        char bytes[101];
        memset(bytes, 'x', sizeof(bytes));
        assert_int_equal(tob_ctl_outfile_open(&file, path, 0644, n > 99), 0);
        assert_int_equal(tob_ctl_outfile_write(&file, bytes, n), 0);
        assert_int_equal(tob_ctl_outfile_keep(&file), 0);
        tob_ctl_outfile_fini(&file);
        tob_buffer_init(&buffer, 100 + 1);
        assert_int_equal(tob_ctl_read_file(path, &buffer), n > 100);
        if (n <= 100) {
            assert_int_equal(buffer.len, n);
            assert_int_equal(buffer.data[n], 0);
        }
        tob_buffer_fini(&buffer);
    }
    assert_int_equal(unlink(path), 0);
}

#define USE(name) cmocka_unit_test_setup(name, use)

int main(void) {
    const struct CMUnitTest tests[] = {
        USE(an_update_names_what_was_given_and_only_that),
        USE(the_newest_entries_are_shown_in_the_order_in_which_it_happened),
        USE(a_certificate_goes_where_it_is_told_to_and_the_key_where_nobody_else_reads),
        USE(what_could_not_be_issued_leaves_no_files),
        USE(a_certificate_has_32_names_and_none_more),
        USE(a_file_is_read_up_to_its_limit_and_no_byte_more),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
