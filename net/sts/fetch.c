#include "net/sts/fetch.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/queue.h>

#include "core/base/error.h"
#include "dns/name.h"

#define WHY_ROOM 160

struct fetch {
  LIST_ENTRY(fetch) link;
  struct sts_fetcher *fetcher;
  void *owner;
  CURL *curl;
  size_t len;
  bool too_large;
  char why[CURL_ERROR_SIZE];
  char text[STS_POLICY_BYTES_MAX];
};
LIST_HEAD(fetches, fetch);

struct sts_fetcher {
  struct sts_fetcher_options o;
  CURLM *multi;
  struct curl_slist *connect_to;
  struct fetches fetches;
  unsigned count;
};

static size_t on_bytes(char *bytes, size_t size, size_t count, void *context) {
  struct fetch *fetch = context;
  size_t len = size * count;
  if (len > sizeof fetch->text - fetch->len) {
    fetch->too_large = true;
    return 0; /* ends it */
  }
  memcpy(fetch->text + fetch->len, bytes, len);
  fetch->len += len;
  return len;
}

static void end(struct fetch *fetch) {
  struct sts_fetcher *fetcher = fetch->fetcher;
  LIST_REMOVE(fetch, link);
  fetcher->count--;
  if (fetch->curl != NULL) {
    curl_multi_remove_handle(fetcher->multi, fetch->curl);
    curl_easy_cleanup(fetch->curl);
  }
  free(fetch);
}

/* ---- begin ---- */

/* Nothing of it may come from elsewhere: no proxy of the environment's, no cookies, no redirect, no other protocol. */
static void set_options(struct fetch *fetch, const char *url) {
  const struct sts_fetcher *fetcher = fetch->fetcher;
  CURL *curl = fetch->curl;
  curl_easy_setopt(curl, CURLOPT_URL, url);
  curl_easy_setopt(curl, CURLOPT_PRIVATE, fetch);
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_PROXY, "");
  curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
  curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
  if (fetcher->o.ca_file != NULL) {
    curl_easy_setopt(curl, CURLOPT_CAINFO, fetcher->o.ca_file);
    curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
  }
  if (fetcher->connect_to != NULL) curl_easy_setopt(curl, CURLOPT_CONNECT_TO, fetcher->connect_to);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)fetcher->o.timeout_ms);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)fetcher->o.timeout_ms);
  curl_easy_setopt(curl, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)STS_POLICY_BYTES_MAX);
  curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, fetch);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, fetch->why);
}

bool sts_fetcher_start(struct sts_fetcher *fetcher, const char *domain, void *owner) {
  char url[DNS_NAME_MAX + 64];
  struct fetch *fetch = fetcher->count < fetcher->o.under_way ? malloc(sizeof *fetch) : NULL;
  if (fetch == NULL) return false;
  memset(fetch, 0, offsetof(struct fetch, text));
  fetch->fetcher = fetcher;
  fetch->owner = owner;
  fetch->curl = curl_easy_init();
  LIST_INSERT_HEAD(&fetcher->fetches, fetch, link);
  fetcher->count++;
  snprintf(url, sizeof url, "https://mta-sts.%s/.well-known/mta-sts.txt", domain);
  if (fetch->curl != NULL) set_options(fetch, url);
  if (fetch->curl != NULL && curl_multi_add_handle(fetcher->multi, fetch->curl) == CURLM_OK) return true;
  end(fetch);
  return false;
}

/* ---- the end ---- */

/* "text/plain", with whatever parameters (3.2). */
static bool is_plain_text(const char *type) {
  static const char plain[] = "text/plain";
  if (type == NULL || strncasecmp(type, plain, sizeof plain - 1) != 0) return false;
  char next = type[sizeof plain - 1];
  return next == '\0' || next == ';' || next == ' ';
}

static bool is_about_trust(CURLcode code) {
  return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_ISSUER_ERROR || code == CURLE_SSL_INVALIDCERTSTATUS;
}

static enum sts_trouble judge(const struct fetch *fetch, CURLcode code, char why[WHY_ROOM]) {
  long status = 0;
  const char *type = NULL;
  curl_easy_getinfo(fetch->curl, CURLINFO_RESPONSE_CODE, &status);
  curl_easy_getinfo(fetch->curl, CURLINFO_CONTENT_TYPE, &type);
  why[0] = '\0';
  if (fetch->too_large || code == CURLE_FILESIZE_EXCEEDED) {
    snprintf(why, WHY_ROOM, "it is longer than 64 KiB");
  } else if (code == CURLE_OPERATION_TIMEDOUT) {
    snprintf(why, WHY_ROOM, "it took longer than %u ms", fetch->fetcher->o.timeout_ms);
  } else if (code != CURLE_OK) {
    snprintf(why, WHY_ROOM, "%.150s", fetch->why[0] != '\0' ? fetch->why : curl_easy_strerror(code));
  } else if (status != 200) {
    snprintf(why, WHY_ROOM, "the answer is %ld%s", status, status / 100 == 3 ? ", a redirect" : "");
  } else if (!is_plain_text(type)) {
    snprintf(why, WHY_ROOM, "the answer is no text/plain");
  }
  if (why[0] == '\0') return STS_FINE;
  return is_about_trust(code) ? STS_NOT_TRUSTED : STS_NOT_FETCHED;
}

static void finish(struct sts_fetcher *fetcher, CURL *curl, CURLcode code) {
  char *private = NULL;
  char why[WHY_ROOM];
  curl_easy_getinfo(curl, CURLINFO_PRIVATE, &private);
  struct fetch *fetch = (struct fetch *)(void *)private;
  enum sts_trouble trouble = judge(fetch, code, why);
  fetcher->o.done(fetcher->o.context, fetch->owner, trouble, span_of(fetch->text, trouble == STS_FINE ? fetch->len : 0), why);
  end(fetch);
}

void sts_fetcher_turn(struct sts_fetcher *fetcher, unsigned wait_ms) {
  int running, left;
  CURLMsg *message;
  curl_multi_perform(fetcher->multi, &running);
  while ((message = curl_multi_info_read(fetcher->multi, &left)) != NULL) {
    if (message->msg == CURLMSG_DONE) finish(fetcher, message->easy_handle, message->data.result);
  }
  if (wait_ms > 0) curl_multi_poll(fetcher->multi, NULL, 0, (int)wait_ms, NULL);
}

void sts_fetcher_wake(struct sts_fetcher *fetcher) { curl_multi_wakeup(fetcher->multi); }

/* ---- life ---- */

int sts_fetcher_open(struct sts_fetcher **out, const struct sts_fetcher_options *options) {
  char entry[300];
  struct sts_fetcher *fetcher = calloc(1, sizeof *fetcher);
  if (fetcher == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
    free(fetcher);
    return E_NO_MEMORY;
  }
  fetcher->o = *options;
  LIST_INIT(&fetcher->fetches);
  fetcher->multi = curl_multi_init();
  if (options->connect_to != NULL) {
    snprintf(entry, sizeof entry, "::%s", options->connect_to);
    fetcher->connect_to = curl_slist_append(NULL, entry);
  }
  if (fetcher->multi == NULL || (options->connect_to != NULL && fetcher->connect_to == NULL)) {
    sts_fetcher_close(fetcher);
    return E_NO_MEMORY;
  }
  *out = fetcher;
  return E_OK;
}

void sts_fetcher_close(struct sts_fetcher *fetcher) {
  if (fetcher == NULL) return;
  while (!LIST_EMPTY(&fetcher->fetches)) end(LIST_FIRST(&fetcher->fetches));
  if (fetcher->multi != NULL) curl_multi_cleanup(fetcher->multi);
  curl_slist_free_all(fetcher->connect_to);
  free(fetcher);
  curl_global_cleanup();
}
