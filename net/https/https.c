#include "net/https/https.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/base/netaddr.h"

#define WHY_ROOM 160

struct exchange {
  LIST_ENTRY(exchange) link;
  struct https *https;
  void *owner;
  CURL *curl;
  struct curl_slist *fields;
  size_t len;
  bool too_large, not_public;
  char why[CURL_ERROR_SIZE];
  uint8_t body[];
};
LIST_HEAD(exchanges, exchange);

struct https {
  struct https_options o;
  CURLM *multi;
  struct curl_slist *connect_to;
  struct exchanges exchanges;
  unsigned count;
};

static size_t on_bytes(char *bytes, size_t size, size_t count, void *context) {
  struct exchange *exchange = context;
  size_t len = size * count;
  if (len > exchange->https->o.answer_max - exchange->len) {
    exchange->too_large = true;
    return 0; /* ends it */
  }
  memcpy(exchange->body + exchange->len, bytes, len);
  exchange->len += len;
  return len;
}

static void end(struct exchange *exchange) {
  struct https *https = exchange->https;
  LIST_REMOVE(exchange, link);
  https->count--;
  if (exchange->curl != NULL) {
    curl_multi_remove_handle(https->multi, exchange->curl);
    curl_easy_cleanup(exchange->curl);
  }
  curl_slist_free_all(exchange->fields);
  free(exchange);
}

/* ---- where to ---- */

static bool take_address(struct netaddr *address, const struct sockaddr *from) {
  *address = (struct netaddr){0};
  if (from->sa_family == AF_INET) {
    address->family = 4;
    memcpy(address->bytes, &((const struct sockaddr_in *)(const void *)from)->sin_addr, 4);
  } else if (from->sa_family == AF_INET6) {
    address->family = 6;
    memcpy(address->bytes, &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr, 16);
  }
  return address->family != 0;
}

static bool is_public(const struct sockaddr *sockaddr) {
  static const char *const others[] = {/* RFC 6890, and what RFC 6052, 3056 and 4380 carry IPv4 addresses in */
                                       "0.0.0.0/8",    "10.0.0.0/8",   "100.64.0.0/10",  "127.0.0.0/8",   "169.254.0.0/16",  "172.16.0.0/12",
                                       "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
                                       "224.0.0.0/3",  "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32",     "2001:db8::/32",   "2002::/16"};
  struct netaddr address;
  struct network network;
  if (!take_address(&address, sockaddr)) return false;
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    if (network_parse(&network, span_of_text(others[i])) == E_OK && network_contains(&network, &address)) return false;
  must(network_parse(&network, SPAN("2000::/3")) == E_OK); /* all that is given out of IPv6 */
  return address.family == 4 || network_contains(&network, &address);
}

static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *to) {
  struct exchange *exchange = context;
  (void)purpose;
  if (exchange->https->o.public_only && exchange->https->connect_to == NULL && !is_public(&to->addr)) {
    exchange->not_public = true;
    return CURL_SOCKET_BAD;
  }
  return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

/* ---- begin ---- */

/* Nothing of it may come from elsewhere: no proxy of the environment's, no cookies, no redirect, no other protocol. */
static void set_options(struct exchange *exchange, const struct https_request *request) {
  const struct https *https = exchange->https;
  CURL *curl = exchange->curl;
  curl_easy_setopt(curl, CURLOPT_URL, request->url);
  curl_easy_setopt(curl, CURLOPT_PRIVATE, exchange);
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_PROXY, "");
  curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
  curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
  if (https->o.ca_file != NULL) {
    curl_easy_setopt(curl, CURLOPT_CAINFO, https->o.ca_file);
    curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
  }
  if (https->connect_to != NULL) curl_easy_setopt(curl, CURLOPT_CONNECT_TO, https->connect_to);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)https->o.timeout_ms);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)https->o.timeout_ms);
  curl_easy_setopt(curl, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)https->o.answer_max);
  curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L);
  curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
  curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, exchange);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, exchange);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, exchange->why);
}

/* False: no memory. */
static bool set_body(struct exchange *exchange, const struct https_request *request) {
  char field[128];
  if (request->type == NULL) return true;
  must(snprintf(field, sizeof field, "Content-Type: %s", request->type) < (int)sizeof field);
  exchange->fields = curl_slist_append(NULL, field);
  if (exchange->fields == NULL || curl_slist_append(exchange->fields, "Expect:") == NULL) return false; /* no round trip for a "100 Continue" */
  curl_easy_setopt(exchange->curl, CURLOPT_POST, 1L);
  curl_easy_setopt(exchange->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
  curl_easy_setopt(exchange->curl, CURLOPT_POSTFIELDS, request->body.at);
  curl_easy_setopt(exchange->curl, CURLOPT_HTTPHEADER, exchange->fields);
  return true;
}

bool https_start(struct https *https, const struct https_request *request) {
  struct exchange *exchange = https->count < https->o.under_way ? malloc(sizeof *exchange + https->o.answer_max) : NULL;
  if (exchange == NULL) return false;
  *exchange = (struct exchange){.https = https, .owner = request->owner, .curl = curl_easy_init()};
  LIST_INSERT_HEAD(&https->exchanges, exchange, link);
  https->count++;
  if (exchange->curl != NULL) {
    set_options(exchange, request);
    if (set_body(exchange, request) && curl_multi_add_handle(https->multi, exchange->curl) == CURLM_OK) return true;
  }
  end(exchange);
  return false;
}

/* ---- the end ---- */

static bool is_about_trust(CURLcode code) {
  return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_ISSUER_ERROR || code == CURLE_SSL_INVALIDCERTSTATUS;
}

static int judge(const struct exchange *exchange, CURLcode code, char why[WHY_ROOM]) {
  const struct https_options *o = &exchange->https->o;
  why[0] = '\0';
  if (exchange->too_large || code == CURLE_FILESIZE_EXCEEDED) {
    snprintf(why, WHY_ROOM, "it is longer than %u KiB", o->answer_max / 1024);
  } else if (code == CURLE_OPERATION_TIMEDOUT) {
    snprintf(why, WHY_ROOM, "it took longer than %u ms", o->timeout_ms);
  } else if (code != CURLE_OK && exchange->not_public) {
    snprintf(why, WHY_ROOM, "its address is not public");
  } else if (code != CURLE_OK) {
    snprintf(why, WHY_ROOM, "%.150s", exchange->why[0] != '\0' ? exchange->why : curl_easy_strerror(code));
  }
  return why[0] == '\0' ? E_OK : E_OTHER;
}

static void finish(struct https *https, CURL *curl, CURLcode code) {
  char *private = NULL, *type = NULL;
  char why[WHY_ROOM];
  struct https_answer answer = {0};
  curl_easy_getinfo(curl, CURLINFO_PRIVATE, &private);
  struct exchange *exchange = (struct exchange *)(void *)private;
  int error = judge(exchange, code, why);
  answer.untrusted = is_about_trust(code);
  if (error == E_OK) {
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer.status);
    curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
    answer.type = type;
    answer.body = span_of(exchange->body, exchange->len);
  }
  https->o.done(https->o.context, exchange->owner, error, &answer, why);
  end(exchange);
}

void https_turn(struct https *https, unsigned wait_ms) {
  int running, left;
  CURLMsg *message;
  curl_multi_perform(https->multi, &running);
  while ((message = curl_multi_info_read(https->multi, &left)) != NULL) {
    if (message->msg != CURLMSG_DONE) continue;
    finish(https, message->easy_handle, message->data.result);
    wait_ms = 0; /* who was told has something to do */
  }
  if (wait_ms > 0) curl_multi_poll(https->multi, NULL, 0, (int)wait_ms, NULL);
}

void https_wake(struct https *https) { curl_multi_wakeup(https->multi); }

/* ---- life ---- */

int https_open(struct https **out, const struct https_options *options) {
  char entry[300];
  struct https *https = calloc(1, sizeof *https);
  if (https == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
    free(https);
    return E_NO_MEMORY;
  }
  https->o = *options;
  LIST_INIT(&https->exchanges);
  https->multi = curl_multi_init();
  if (options->connect_to != NULL) {
    snprintf(entry, sizeof entry, "::%s", options->connect_to);
    https->connect_to = curl_slist_append(NULL, entry);
  }
  if (https->multi == NULL || (options->connect_to != NULL && https->connect_to == NULL)) {
    https_close(https);
    return E_NO_MEMORY;
  }
  *out = https;
  return E_OK;
}

void https_close(struct https *https) {
  if (https == NULL) return;
  while (!LIST_EMPTY(&https->exchanges)) end(LIST_FIRST(&https->exchanges));
  if (https->multi != NULL) curl_multi_cleanup(https->multi);
  curl_slist_free_all(https->connect_to);
  free(https);
  curl_global_cleanup();
}
