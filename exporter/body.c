#include "exporter/body.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#include "exporter/exposition.h"

#define GZIP_WINDOW_BITS (15 + 16) // zlib.h: 16 more asks for a gzip header
#define GZIP_MEM_LEVEL   8         // zlib's default: 9 is slower at level 1, and packs no better

struct tob_body {
    tob_exposition exposition;
    bool gzip;
    bool text_ended;
    bool ended;
    z_stream stream;
    char text[TOB_BODY_PIECE_BYTES];
    unsigned char packed[TOB_BODY_PIECE_BYTES];
};

tob_error tob_body_new(tob_mirror *mirror, tob_manager *manager, unsigned parts, bool gzip, tob_body **ret) {
    tob_body *body = malloc(sizeof(*body));
    if (!body) {
        return TOB_NO_MEMORY;
    }
    body->gzip = gzip;
    body->text_ended = false;
    body->ended = false;
    body->stream = (z_stream){.next_in = NULL};
    if (gzip && deflateInit2(&body->stream, TOB_BODY_GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW_BITS, GZIP_MEM_LEVEL,
                             Z_DEFAULT_STRATEGY) != Z_OK) {
        free(body);
        return TOB_NO_MEMORY;
    }
    tob_exposition_init(&body->exposition, mirror, manager, parts);
    *ret = body;
    return TOB_OK;
}

void tob_body_free(tob_body *body) {
    if (!body) {
        return;
    }
    if (body->gzip) {
        deflateEnd(&body->stream);
    }
    free(body);
}

static tob_error read_packed(tob_body *body, size_t *ret_n) {
    z_stream *stream = &body->stream;
    stream->next_out = body->packed;
    stream->avail_out = sizeof(body->packed);
    while (stream->avail_out == sizeof(body->packed) && !body->ended) {
        if (stream->avail_in == 0 && !body->text_ended) {
            size_t n = tob_exposition_read(&body->exposition, body->text, sizeof(body->text));
            stream->next_in = (unsigned char *)body->text;
            stream->avail_in = (uInt)n;
            body->text_ended = n == 0;
        }
        int result = deflate(stream, body->text_ended ? Z_FINISH : Z_NO_FLUSH);
        body->ended = result == Z_STREAM_END;
        if (result != Z_OK && result != Z_STREAM_END) {
            return TOB_INTERNAL;
        }
    }
    *ret_n = sizeof(body->packed) - stream->avail_out;
    return TOB_OK;
}

tob_error tob_body_read(tob_body *body, const void **ret_bytes, size_t *ret_n) {
    if (!body->gzip) {
        *ret_n = tob_exposition_read(&body->exposition, body->text, sizeof(body->text));
        *ret_bytes = body->text;
        return TOB_OK;
    }
    tob_error err = read_packed(body, ret_n);
    *ret_bytes = body->packed;
    return err;
}

typedef struct span {
    const char *at;
    const char *end;
} span;

static span trimmed(span s) {
    while (s.at < s.end && (*s.at == ' ' || *s.at == '\t')) {
        s.at++;
    }
    while (s.end > s.at && (s.end[-1] == ' ' || s.end[-1] == '\t')) {
        s.end--;
    }
    return s;
}

// The part of `s` before the separator; `s` goes behind it.
static span cut(span *s, char separator) {
    const char *at = memchr(s->at, separator, (size_t)(s->end - s->at));
    span part = {s->at, at ? at : s->end};
    s->at = at ? at + 1 : s->end;
    return trimmed(part);
}

static bool equals(span s, const char *text) {
    size_t n = (size_t)(s.end - s.at);
    return n == strlen(text) && strncasecmp(s.at, text, n) == 0;
}

// q=0, q=0.0, q=0.00 and q=0.000 mean: not acceptable.
static bool is_zero_weight(span parameter) {
    span name = cut(&parameter, '=');
    parameter = trimmed(parameter);
    if (!equals(name, "q") || parameter.at == parameter.end || *parameter.at != '0') {
        return false;
    }
    for (const char *c = parameter.at; c < parameter.end; c++) {
        if (*c != '0' && *c != '.') {
            return false;
        }
    }
    return true;
}

bool tob_accepts_gzip(const char *header, size_t len) {
    int gzip = -1; // not said
    int any = -1;
    span rest = {header, header + len};
    while (len && rest.at < rest.end) {
        span coding = cut(&rest, ',');
        span name = cut(&coding, ';');
        int good = 1;
        while (coding.at < coding.end) {
            good &= !is_zero_weight(cut(&coding, ';'));
        }
        if (equals(name, "gzip") || equals(name, "x-gzip")) {
            gzip = good;
        } else if (equals(name, "*")) {
            any = good;
        }
    }
    return gzip >= 0 ? gzip : any > 0;
}
