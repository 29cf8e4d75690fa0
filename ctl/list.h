// Lists: everything that a List method has, page by page.
#ifndef TOB_CTL_LIST_H
#define TOB_CTL_LIST_H

#include "ctl/output.h"
#include "ctl/session.h"

// tob_ctl_each_page calls `fn` with each answer until there is no next page, or it returns TOB_CTL_ENOUGH, which is no
// failure, or an exit status other than 0.
//   request         with a field `page`, which is set
//   response_type   a message of {repeated MESSAGE …; string next_page}, in this order
// Returns the exit status.
#define TOB_CTL_ENOUGH (-1)
typedef int (*tob_ctl_page_fn)(void *user, const ProtobufCMessage *page);
TOB_MUST_USE int tob_ctl_each_page(tob_ctl_session *session, const char *method, ProtobufCMessage *request,
                                   const ProtobufCMessageDescriptor *response_type, tob_ctl_page_fn fn,
                                   void *user);

// A whole "… list" command.
typedef struct tob_ctl_list {
    const char *method; // with its service
    const ProtobufCMessageDescriptor *request_type;
    const ProtobufCMessageDescriptor *response_type;
    const tob_ctl_column *columns;
    size_t column_count;
    const char *filter; // a text of the request that an option of that name sets, or NULL
    const char *filter_help;
} tob_ctl_list;

// `run` of these; spec: the tob_ctl_list. Prints a table, or one JSON array.
int tob_ctl_run_list(const tob_ctl_command *self, int argc, char **argv);

// tob_ctl_print_json_rows prints objects of an array that is "[" before the first and "\n]\n" after the last.
void tob_ctl_print_json_rows(const json_t *objects, bool first);

#endif
