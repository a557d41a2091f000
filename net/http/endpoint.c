/*
 * The HTTP side door over libmicrohttpd: one thread of the library's own polls all connections and runs all callbacks, so what hangs off struct
 * endpoint needs no lock. A request to the API is set aside (suspended) while a worker answers it.
 *
 * Slow and endless clients are bounded three ways: a request must fit CONNECTION_MEMORY, silence ends a connection after SILENCE_S, and of more than
 * CONNECTIONS_MAX connections the oldest is shut, so that clients who dribble a byte now and then can never keep a monitor out.
 */
#include "net/http/endpoint.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>

#include "core/base/error.h"

#define CONNECTIONS_MAX 64       /* a few monitors, each with a connection or two */
#define CONNECTIONS_CLOSING 16   /* room beyond, for those shut whose end the library has not seen yet */
#define CONNECTION_MEMORY 16384u /* of the library, for one request's line and headers and its answer's headers; beyond: 414 or 431 */
#define SILENCE_S 10u
#define API_PATH "/api/v1/"
#define BODY_MAX 65536u

struct connection {
  MHD_socket socket;
  uint64_t number; /* 0: the place is free */
  bool shut;
};

struct endpoint {
  struct MHD_Daemon *daemon;
  struct worker_thread *worker; /* NULL: no API */
  const struct counters *const *counters;
  unsigned counters_count;
  pthread_t opener;
  struct fmt said; /* the library's messages on the opener's thread: why it did not start */
  uint8_t said_room[256];
  uint64_t connections_begun;
  struct connection connection[CONNECTIONS_MAX + CONNECTIONS_CLOSING];
};
#define PLACES (CONNECTIONS_MAX + CONNECTIONS_CLOSING)

/* ---- pages ---- */

static unsigned health_page(const struct endpoint *endpoint, struct fmt *out) {
  for (unsigned i = 0; i < endpoint->counters_count; i++) {
    const struct {
      bool so;
      const char *text;
    } reasons[] = {
        {count_get(endpoint->counters[i], GAUGE_READY) == 0, "is stopping"} /* all ran when we began */,
        {count_get(endpoint->counters[i], GAUGE_SPOOL_FAILED) != 0, "spool failed"},
        {count_get(endpoint->counters[i], GAUGE_SPOOL_FULL) != 0, "spool full"},
        {count_get(endpoint->counters[i], GAUGE_QUEUE_FULL) != 0, "queue full (limits.messages)"},
    };
    for (unsigned r = 0; r < sizeof reasons / sizeof reasons[0]; r++) {
      if (!reasons[r].so) continue;
      fmt_text(out, "shard ");
      fmt_u64(out, i);
      fmt_text(out, ": ");
      fmt_text(out, reasons[r].text);
      fmt_char(out, '\n');
    }
  }
  if (out->len > 0) return MHD_HTTP_SERVICE_UNAVAILABLE;
  fmt_text(out, "ok\n");
  return MHD_HTTP_OK;
}
#define HEALTH_LINE_MAX 48 /* of one reason; four a shard */

static unsigned metrics_page(const struct endpoint *endpoint, struct fmt *out) {
  counters_format(endpoint->counters, endpoint->counters_count, out);
  return MHD_HTTP_OK;
}

static const struct page {
  const char *path, *type;
  unsigned (*write)(const struct endpoint *endpoint, struct fmt *out);
} pages[] = {
    {"/health", "text/plain; charset=utf-8", health_page},
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", metrics_page},
};

static size_t page_size_max(const struct endpoint *endpoint) { return COUNTERS_TEXT_MAX + (size_t)endpoint->counters_count * 4 * HEALTH_LINE_MAX; }

/* ---- answers ---- */

/* `allow`: with 405, what may be asked of this path. Takes the response; NULL (no memory) makes the library close the connection. */
static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type, const char *allow,
                              struct MHD_Response *response) {
  if (response == NULL) return MHD_NO;
  enum MHD_Result result = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
  if (result == MHD_YES) result = MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
  if (result == MHD_YES && status == MHD_HTTP_METHOD_NOT_ALLOWED) result = MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
  if (result == MHD_YES && status == MHD_HTTP_BAD_REQUEST) result = MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
  if (result == MHD_YES) result = MHD_queue_response(connection, status, response);
  MHD_destroy_response(response);
  return result;
}

static const char reading[] = "GET, HEAD";
static const char json_type[] = "application/json; charset=utf-8";

static enum MHD_Result answer_json(struct MHD_Connection *connection, unsigned status, const char *text) {
  return answer(connection, status, json_type, NULL, MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT));
}

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned status, const char *text) {
  return answer(connection, status, pages[0].type, reading,
                MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT));
}

static enum MHD_Result answer_page(const struct endpoint *endpoint, struct MHD_Connection *connection, const struct page *page) {
  size_t size = page_size_max(endpoint);
  uint8_t *room = malloc(size);
  if (room == NULL) return MHD_NO;
  struct fmt out = fmt_over(room, size);
  unsigned status = page->write(endpoint, &out);
  must(!out.overflow);
  struct MHD_Response *response = MHD_create_response_from_buffer(out.len, room, MHD_RESPMEM_MUST_FREE);
  if (response == NULL) free(room);
  return answer(connection, status, page->type, reading, response);
}

/* ---- the API ---- */

struct call {
  struct task task;
  struct MHD_Connection *connection;
  uint8_t *body;
  size_t body_size;
  bool given; /* to the worker */
  bool too_long;
};

/* Their addresses stand for a request that needs nothing remembered, and for one whose path or arguments would end at a NUL. */
static char seen, holed;

static enum MHD_Result take_argument(void *context, enum MHD_ValueKind kind, const char *name, const char *value) {
  struct http_request *request = context;
  (void)kind;
  if (request->arguments == HTTP_ARGUMENTS_MAX || name == NULL) return MHD_NO;
  char *copy = strdup(name), *content = value != NULL ? strdup(value) : NULL;
  request->argument[request->arguments].name = copy;
  request->argument[request->arguments++].value = content;
  if (copy != NULL && (value == NULL) == (content == NULL)) return MHD_YES;
  free((char *)(uintptr_t)request->path);
  request->path = NULL; /* out of memory: new_call sees it */
  return MHD_NO;
}

static void free_call(struct call *call) {
  for (unsigned i = 0; i < call->task.request.arguments; i++) {
    free(call->task.request.argument[i].name);
    free(call->task.request.argument[i].value);
  }
  free((char *)(uintptr_t)call->task.request.path);
  free(call->task.answer.json);
  free(call->body);
  free(call);
}

/* The request is over, in whatever way. One that is set aside does not end before it is resumed. */
static void on_completed(void *context, struct MHD_Connection *connection, void **request, enum MHD_RequestTerminationCode how) {
  (void)context;
  (void)connection;
  (void)how;
  if (*request != NULL && *request != &seen && *request != &holed) free_call(*request);
  *request = NULL;
}

/* On the worker's thread. */
static void on_answered(struct task *task) { MHD_resume_connection(((struct call *)task)->connection); }

static struct call *new_call(struct MHD_Connection *connection, const char *path, enum http_method method) {
  struct call *call = calloc(1, sizeof *call);
  if (call == NULL) return NULL;
  call->connection = connection;
  call->task.done = on_answered;
  call->task.request.method = method;
  call->task.request.path = strdup(path);
  MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, take_argument, &call->task.request);
  if (call->task.request.path != NULL) return call;
  free_call(call);
  return NULL;
}

static void keep_body(struct call *call, struct span bytes) {
  uint8_t *grown = call->body_size + bytes.len > BODY_MAX ? NULL : realloc(call->body, call->body_size + bytes.len);
  call->too_long |= grown == NULL;
  if (grown == NULL) return;
  memcpy(grown + call->body_size, bytes.at, bytes.len);
  call->body = grown;
  call->body_size += bytes.len;
}

static enum MHD_Result give(const struct endpoint *endpoint, struct call *call) {
  if (call->too_long) return answer_json(call->connection, MHD_HTTP_CONTENT_TOO_LARGE, "{\"error\":\"the body is longer than 64 KiB\"}\n");
  call->task.request.body = span_of(call->body, call->body_size);
  call->given = true;
  MHD_suspend_connection(call->connection); /* before the worker can resume it */
  if (worker_give(endpoint->worker, &call->task)) return MHD_YES;
  MHD_resume_connection(call->connection); /* then we are called again, and find no answer */
  return MHD_YES;
}

static enum MHD_Result answer_call(struct call *call) {
  struct http_answer *made = &call->task.answer;
  if (made->json == NULL) return answer_json(call->connection, MHD_HTTP_SERVICE_UNAVAILABLE, "{\"error\":\"busy, stopping, or out of memory\"}\n");
  char *json = made->json;
  made->json = NULL;
  struct MHD_Response *response = MHD_create_response_from_buffer(made->len, json, MHD_RESPMEM_MUST_FREE);
  if (response == NULL) free(json);
  return answer(call->connection, made->status, json_type, made->allow, response);
}

/* A page whose name was made to point here (DNS rebinding) is of the same origin as we for its reader's browser: but it cannot help saying its name. */
static bool is_for_us(struct MHD_Connection *connection) {
  const char *host = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
  struct netaddr address;
  if (host == NULL) return true;
  struct span name = span_of_text(host);
  return netaddr_parse_with_port(&address, name, 80) == E_OK || span_equal_nocase(name, SPAN("localhost")) ||
         span_starts_nocase(name, SPAN("localhost:"));
}

/* Behind the type there may be parameters. */
static bool is_json(struct MHD_Connection *connection) {
  const char *text = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
  const struct span json = SPAN("application/json");
  if (text == NULL || !span_starts_nocase(span_of_text(text), json)) return false;
  const char *behind = text + json.len + strspn(text + json.len, " \t");
  return *behind == '\0' || *behind == ';';
}

static enum http_method method_of(const char *name) {
  if (strcmp(name, MHD_HTTP_METHOD_POST) == 0) return HTTP_CHANGES;
  return strcmp(name, MHD_HTTP_METHOD_GET) == 0 || strcmp(name, MHD_HTTP_METHOD_HEAD) == 0 ? HTTP_READS : HTTP_OTHER;
}

static enum MHD_Result on_api_request(const struct endpoint *endpoint, struct MHD_Connection *connection, const char *path, enum http_method method,
                                      struct span body, size_t *body_size, void **request) {
  struct call *call = *request;
  if (call == NULL) {
    if (!is_for_us(connection))
      return answer_json(connection, MHD_HTTP_FORBIDDEN, "{\"error\":\"the API answers to an address or localhost as Host only\"}\n");
    if (method == HTTP_CHANGES && !is_json(connection))
      return answer_json(connection, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "{\"error\":\"a POST needs Content-Type: application/json\"}\n");
    *request = new_call(connection, path, method);
    return *request != NULL ? MHD_YES : MHD_NO;
  }
  if (*body_size > 0) {
    if (!call->too_long) keep_body(call, body);
    *body_size = 0;
    return MHD_YES;
  }
  return call->given ? answer_call(call) : give(endpoint, call);
}

/* ---- requests ---- */

struct lengths {
  unsigned lengths, encodings;
};

static enum MHD_Result count_length(void *context, enum MHD_ValueKind kind, const char *name, const char *value) {
  struct lengths *counted = context;
  (void)kind;
  (void)value;
  counted->lengths += strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
  counted->encodings += strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0;
  return MHD_YES;
}

/* The library takes the first word on where a body ends; a proxy before us may take another, and what one sees as a body is a request to the other. */
static bool has_one_length(struct MHD_Connection *connection) {
  struct lengths counted = {0};
  MHD_get_connection_values(connection, MHD_HEADER_KIND, count_length, &counted);
  return counted.lengths + counted.encodings <= 1;
}

/* What no part of us should see. NULL: nothing. */
static const char *wrong_with(struct MHD_Connection *connection, const void *request) {
  if (request == &holed) return "{\"error\":\"a path or argument with %00\"}\n";
  if (request == NULL && !has_one_length(connection)) return "{\"error\":\"more than one Content-Length or Transfer-Encoding\"}\n";
  return NULL;
}

/* Before the library decodes the path and its arguments, which we get as strings. What it returns is the request's context. */
static void *on_uri(void *context, const char *uri, struct MHD_Connection *connection) {
  (void)context;
  (void)connection;
  return strstr(uri, "%00") != NULL ? &holed : NULL;
}

/* Called once when the headers are there, then for each piece of a body, then once more when the request is whole. */
static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method_name, const char *version,
                                  const char *body, size_t *body_size, void **request) {
  (void)version;
  const struct endpoint *endpoint = context;
  enum http_method method = method_of(method_name);
  const char *wrong = wrong_with(connection, *request);
  if (wrong != NULL) return answer_json(connection, MHD_HTTP_BAD_REQUEST, wrong);
  if (endpoint->worker != NULL && strncmp(url, API_PATH, sizeof API_PATH - 1) == 0)
    return on_api_request(endpoint, connection, url + sizeof API_PATH - 1, method, span_of(body, *body_size), body_size, request);
  const struct page *page = NULL;
  for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++)
    if (strcmp(url, pages[i].path) == 0) page = &pages[i];
  if (page == NULL) return answer_text(connection, MHD_HTTP_NOT_FOUND, "not found\n");
  if (method != HTTP_READS) return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed\n");
  if (*request == NULL) {
    *request = &seen;
    return MHD_YES;
  }
  if (*body_size > 0) return MHD_NO; /* no GET of ours has a body: close */
  return answer_page(context, connection, page);
}

/* ---- connections ---- */

static void shut_oldest(struct endpoint *endpoint) {
  struct connection *oldest = NULL;
  unsigned open = 0;
  for (unsigned i = 0; i < PLACES; i++) {
    struct connection *c = &endpoint->connection[i];
    if (c->number == 0 || c->shut) continue;
    open++;
    if (oldest == NULL || c->number < oldest->number) oldest = c;
  }
  if (open <= CONNECTIONS_MAX) return;
  oldest->shut = true;
  shutdown(oldest->socket, SHUT_RDWR); /* the library sees an end of stream, and closes */
}

static void on_connection(void *context, struct MHD_Connection *connection, void **place, enum MHD_ConnectionNotificationCode what) {
  struct endpoint *endpoint = context;
  struct connection *c = *place;
  if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
    if (c != NULL) c->number = 0;
    return;
  }
  for (unsigned i = 0; i < PLACES && c == NULL; i++)
    if (endpoint->connection[i].number == 0) c = &endpoint->connection[i];
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  if (c == NULL || info == NULL) return;
  *c = (struct connection){.socket = info->connect_fd, .number = ++endpoint->connections_begun};
  *place = c;
  shut_oldest(endpoint);
}

/* ---- life ---- */

/* The library says why it cannot listen on the thread that asked it to; what its own thread says of clients nobody wants to hear. */
__attribute__((format(printf, 2, 0))) static void on_log(void *context, const char *format, va_list arguments) {
  struct endpoint *endpoint = context;
  char text[256];
  if (!pthread_equal(pthread_self(), endpoint->opener)) return;
  int len = vsnprintf(text, sizeof text, format, arguments);
  if (len <= 0) return;
  struct span line = span_of(text, (size_t)len < sizeof text ? (size_t)len : sizeof text - 1);
  unsigned port;
  int skip = 0;
  if (sscanf(text, "Failed to bind to port %u: %n", &port, &skip) == 1) line = span_skip(line, (size_t)skip); /* it does not know which port */
  while (line.len > 0 && line.at[line.len - 1] <= ' ') line.len--;
  fmt_text(&endpoint->said, ": ");
  fmt_put(&endpoint->said, line);
}

static void to_sockaddr(const struct netaddr *address, struct sockaddr_storage *out) {
  memset(out, 0, sizeof *out);
  if (address->family == 4) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    v4->sin_family = AF_INET;
    v4->sin_port = htons(address->port);
    memcpy(&v4->sin_addr, address->bytes, 4);
  } else {
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(address->port);
    memcpy(&v6->sin6_addr, address->bytes, 16);
  }
}

/* Signals are the main thread's: the library's thread is born with all of them blocked. */
static struct MHD_Daemon *start_daemon(struct endpoint *endpoint, const struct netaddr *address) {
  struct sockaddr_storage where;
  sigset_t all, before;
  to_sockaddr(address, &where);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  struct MHD_Daemon *daemon =
      MHD_start_daemon(MHD_USE_AUTO_INTERNAL_THREAD | MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME | (address->family == 6 ? MHD_USE_IPv6 : 0), 0,
                       NULL, NULL, on_request, endpoint, MHD_OPTION_EXTERNAL_LOGGER, on_log, endpoint, MHD_OPTION_URI_LOG_CALLBACK, on_uri, endpoint,
                       MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&where, MHD_OPTION_NOTIFY_CONNECTION, on_connection, endpoint,
                       MHD_OPTION_NOTIFY_COMPLETED, on_completed, endpoint, MHD_OPTION_CONNECTION_LIMIT, (unsigned)PLACES,
                       MHD_OPTION_CONNECTION_TIMEOUT, SILENCE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_END);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return daemon;
}

int endpoint_open(struct endpoint **endpoint, const struct endpoint_options *options, struct fmt *why) {
  struct endpoint *made = calloc(1, sizeof *made);
  if (made == NULL) {
    fmt_text(why, "http: out of memory");
    return E_NO_MEMORY;
  }
  made->counters = options->counters;
  made->counters_count = options->counters_count;
  made->opener = pthread_self();
  made->said = fmt_over(made->said_room, sizeof made->said_room);
  int error = options->api != NULL ? worker_open(&made->worker, options->api, options->api_context) : E_OK;
  if (error != E_OK) {
    fmt_text(why, "http: cannot start a thread");
    free(made);
    return error;
  }
  made->daemon = start_daemon(made, &options->address);
  if (made->daemon != NULL) {
    *endpoint = made;
    return E_OK;
  }
  worker_stop(made->worker);
  worker_free(made->worker);
  fmt_text(why, "http.address, http.port: cannot listen on ");
  netaddr_format_with_port(&options->address, why);
  fmt_put(why, fmt_span(&made->said));
  free(made);
  return E_OTHER;
}

uint16_t endpoint_port(const struct endpoint *endpoint) {
  const union MHD_DaemonInfo *info = MHD_get_daemon_info(endpoint->daemon, MHD_DAEMON_INFO_BIND_PORT);
  return info == NULL ? 0 : info->port;
}

void endpoint_close(struct endpoint *endpoint) {
  if (endpoint == NULL) return;
  worker_stop(endpoint->worker); /* first: nothing may be set aside when the daemon stops */
  MHD_stop_daemon(endpoint->daemon);
  worker_free(endpoint->worker);
  free(endpoint);
}
