#include "ctl/output.h"
#include "report/message_json.h"

json_t *tob_ctl_json(const ProtobufCMessage *message) {
    return tob_message_json(message, TOB_MESSAGE_JSON_PLAIN);
}
