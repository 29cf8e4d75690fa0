// tob_ctl_list pages through a List method of the registry and prints everything: a table, or one JSON array.
#ifndef TOB_CTL_LIST_H
#define TOB_CTL_LIST_H

#include "ctl/output.h"
#include "ctl/session.h"

// response_type   a message of {repeated MESSAGE …; string next_page}, in this order
// Returns the exit status.
TOB_MUST_USE int tob_ctl_list(tob_ctl_session *session, const char *method,
                              const ProtobufCMessageDescriptor *response_type, const tob_ctl_column *columns,
                              size_t column_count);

// tob_ctl_list_command is a whole "… list" command: options, connection, list.
int tob_ctl_list_command(const char *name, const char *summary, const char *method,
                         const ProtobufCMessageDescriptor *response_type, const tob_ctl_column *columns,
                         size_t column_count, int argc, char **argv);

#endif
