#include "net/sts/fetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "core/base/error.h"
#include "dns/name.h"
#include "net/https/https.h"

struct sts_fetcher {
  struct sts_fetcher_options o;
  struct https *https;
};

/* "text/plain", with whatever parameters (3.2). */
static bool is_plain_text(const char *type) {
  static const char plain[] = "text/plain";
  if (type == NULL || strncasecmp(type, plain, sizeof plain - 1) != 0) return false;
  char next = type[sizeof plain - 1];
  return next == '\0' || next == ';' || next == ' ';
}

static void answered(void *context, void *owner, int error, const struct https_answer *answer, const char *why) {
  const struct sts_fetcher *fetcher = context;
  enum sts_trouble trouble = error == E_OK ? STS_FINE : answer->untrusted ? STS_NOT_TRUSTED : STS_NOT_FETCHED;
  char phrase[64];
  if (error == E_OK && answer->status != 200) {
    snprintf(phrase, sizeof phrase, "the answer is %ld%s", answer->status, answer->status / 100 == 3 ? ", a redirect" : "");
    trouble = STS_NOT_FETCHED, why = phrase;
  } else if (error == E_OK && !is_plain_text(answer->type)) {
    trouble = STS_NOT_FETCHED, why = "the answer is no text/plain";
  }
  fetcher->o.done(fetcher->o.context, owner, trouble, trouble == STS_FINE ? answer->body : span_of(NULL, 0), why);
}

bool sts_fetcher_start(struct sts_fetcher *fetcher, const char *domain, void *owner) {
  char url[DNS_NAME_MAX + 64];
  struct https_request request = {.url = url, .owner = owner};
  snprintf(url, sizeof url, "https://mta-sts.%s/.well-known/mta-sts.txt", domain);
  return https_start(fetcher->https, &request);
}

void sts_fetcher_turn(struct sts_fetcher *fetcher, unsigned wait_ms) { https_turn(fetcher->https, wait_ms); }
void sts_fetcher_wake(struct sts_fetcher *fetcher) { https_wake(fetcher->https); }

int sts_fetcher_open(struct sts_fetcher **out, const struct sts_fetcher_options *options) {
  struct sts_fetcher *fetcher = calloc(1, sizeof *fetcher);
  if (fetcher == NULL) return E_NO_MEMORY;
  fetcher->o = *options;
  struct https_options https = {.under_way = options->under_way,
                                .timeout_ms = options->timeout_ms,
                                .answer_max = STS_POLICY_BYTES_MAX,
                                .ca_file = options->ca_file,
                                .connect_to = options->connect_to,
                                .done = answered,
                                .context = fetcher};
  int error = https_open(&fetcher->https, &https);
  if (error == E_OK) {
    *out = fetcher;
  } else {
    free(fetcher);
  }
  return error;
}

void sts_fetcher_close(struct sts_fetcher *fetcher) {
  if (fetcher == NULL) return;
  https_close(fetcher->https);
  free(fetcher);
}
