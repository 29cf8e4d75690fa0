#include "http/router.h"

#include <string.h>

static const char *const known_methods[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

const char *tob_http_method(h2o_iovec_t method) {
    for (size_t i = 0; i < sizeof(known_methods) / sizeof(*known_methods); i++) {
        if (h2o_memis(method.base, method.len, known_methods[i], strlen(known_methods[i]))) {
            return known_methods[i];
        }
    }
    return "OTHER";
}

static bool pattern_valid(const char *pattern) {
    size_t params = 0;
    if (*pattern != '/' || strlen(pattern) > TOB_HTTP_MAX_PATH_BYTES) {
        return false;
    }
    for (const char *p = pattern; *p; p++) {
        if (*p == '{') {
            const char *end = strpbrk(p, "}/");
            if (p[-1] != '/' || !end || *end != '}' || (end[1] && end[1] != '/')) {
                return false;
            }
            params++;
            p = end;
        }
    }
    return params <= TOB_HTTP_MAX_PARAMS;
}

tob_error tob_http_router_add(tob_http_router *router, const tob_http_route *route) {
    if (!pattern_valid(route->pattern)) {
        return TOB_INVALID;
    }
    if (router->count == TOB_HTTP_MAX_ROUTES) {
        return TOB_TOO_LARGE;
    }
    router->routes[router->count++] = *route;
    return TOB_OK;
}

static bool path_matches(const char *pattern, h2o_iovec_t path, h2o_iovec_t params[TOB_HTTP_MAX_PARAMS]) {
    size_t at = 0;
    size_t count = 0;
    while (*pattern) {
        if (*pattern != '{') {
            if (at == path.len || path.base[at] != *pattern) {
                return false;
            }
            at++;
            pattern++;
            continue;
        }
        size_t start = at;
        while (at < path.len && path.base[at] != '/') {
            at++;
        }
        if (at == start) {
            return false;
        }
        params[count++] = h2o_iovec_init(path.base + start, at - start);
        pattern = strchr(pattern, '}') + 1;
    }
    return at == path.len;
}

static bool method_served(const char *served, const char *asked) {
    return strcmp(served, asked) == 0 || (strcmp(served, "GET") == 0 && strcmp(asked, "HEAD") == 0);
}

// Appends to "GET, HEAD"; a list that gets too long ends early.
static void allow_add(char allow[TOB_HTTP_ALLOW_BYTES], const char *method) {
    const char *text = strcmp(method, "GET") == 0 ? "GET, HEAD" : method;
    size_t len = strlen(allow);
    size_t separator = len ? 2 : 0;
    if (len + separator + strlen(text) < TOB_HTTP_ALLOW_BYTES) {
        memcpy(allow + len, ", ", separator);
        memcpy(allow + len + separator, text, strlen(text) + 1);
    }
}

const tob_http_route *tob_http_router_find(const tob_http_router *router, const char *method,
                                           h2o_iovec_t path, h2o_iovec_t ret_params[TOB_HTTP_MAX_PARAMS],
                                           char ret_allow[TOB_HTTP_ALLOW_BYTES]) {
    *ret_allow = 0;
    for (size_t i = 0; i < router->count; i++) {
        const tob_http_route *route = &router->routes[i];
        if (!path_matches(route->pattern, path, ret_params)) {
            continue;
        }
        if (method_served(route->method, method)) {
            *ret_allow = 0;
            return route;
        }
        allow_add(ret_allow, route->method);
    }
    return NULL;
}
