// The bus's topics (bus.proto), for both of its ends.
#ifndef TOB_WIRE_BUS_TOPICS_H
#define TOB_WIRE_BUS_TOPICS_H

#define TOB_BUS_BUCKETS         64u // rows of bucket b are topic b + 1
#define TOB_BUS_TOPIC_HEARTBEAT 127u

#endif
