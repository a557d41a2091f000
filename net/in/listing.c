/*
 * What DNS lists say of a client. All lists of its listener are asked at once, as soon as its address is known; the weights of those that have it are added up, and where they
 * come to the threshold its recipients are refused. The answers are waited for behind MAIL, and there until dns_lists_timeout only: a list that says nothing has nobody on it.
 *
 * A session that ends leaves what it has asked behind: that ends in the resolver by itself, its answers are for the cache, and until then it counts as under way.
 */
#include <stdio.h>

#include "core/base/error.h"
#include "core/conf/dns_lists.h"
#include "dns/list.h"
#include "dns/resolver.h"
#include "net/in/access.h"
#include "net/in/inside.h"

/*
 * Questions to one list from one shard. A list that is silent keeps each for some seconds: that must neither fill the window of the name servers (dns/window.h), which deliveries need, nor
 * keep other lists from being asked. More wait, as long as their session does.
 */
#define UNDER_WAY_MAX 64

struct question {
  struct record_query query;
  struct listing *listing;
  bool waits;
  TAILQ_ENTRY(question) link; /* of those that wait */
};
TAILQ_HEAD(questions, question);

/* The lists of a listener, as this shard asks them: there while it does. */
struct panel {
  LIST_ENTRY(panel) link;
  struct dns_lists *lists;
  unsigned holders;
  struct lane {
    unsigned under_way;
    bool moving;
    struct questions waiting;
  } lane[];
};

struct listing {
  LIST_ENTRY(listing) link;
  struct intake *intake;
  struct session *session; /* NULL: does not want to know any more */
  struct panel *panel;
  struct dns_lists *lists;
  struct timer timer;
  int weight;            /* of the lists that have it */
  int more, less;        /* what those that have not answered may add, and take away (below 0) */
  unsigned pending;      /* questions */
  unsigned heaviest;     /* of the lists that have it, + 1; 0: none has */
  struct netaddr answer; /* of that */
  bool asked;            /* all of them */
  bool refused;
  bool holds; /* the session waits */
  struct question question[];
};

static size_t size_of(const struct dns_lists *lists) { return sizeof(struct listing) + lists->count * sizeof(struct question); }
static size_t panel_size(const struct dns_lists *lists) { return sizeof(struct panel) + lists->count * sizeof(struct lane); }

/* ---- panels ---- */

static struct panel *panel_new(struct intake *intake, struct dns_lists *lists) {
  struct panel *panel = slab_get(intake->o.slab, panel_size(lists));
  if (panel == NULL) return NULL;
  *panel = (struct panel){.lists = dns_lists_share(lists)};
  for (unsigned i = 0; i < lists->count; i++) {
    panel->lane[i] = (struct lane){0};
    TAILQ_INIT(&panel->lane[i].waiting);
  }
  LIST_INSERT_HEAD(&intake->panels, panel, link);
  return panel;
}

/* NULL without memory. There are hardly more than listeners. */
static struct panel *panel_get(struct intake *intake, struct dns_lists *lists) {
  struct panel *panel = LIST_FIRST(&intake->panels);
  while (panel != NULL && panel->lists != lists) panel = LIST_NEXT(panel, link);
  if (panel == NULL) panel = panel_new(intake, lists);
  if (panel != NULL) panel->holders++;
  return panel;
}

static void panel_put(struct intake *intake, struct panel *panel) {
  struct dns_lists *lists = panel->lists;
  if (--panel->holders > 0) return;
  LIST_REMOVE(panel, link);
  slab_put(intake->o.slab, panel, panel_size(lists));
  dns_lists_put(lists);
}

static struct lane *lane_of(const struct question *question) { return &question->listing->panel->lane[question - question->listing->question]; }

/* ---- who does not want to know any more ---- */

static void stop_waiting(struct listing *l) {
  for (unsigned i = 0; i < l->lists->count; i++) {
    struct question *question = &l->question[i];
    if (!question->waits) continue;
    TAILQ_REMOVE(&lane_of(question)->waiting, question, link);
    question->waits = false;
    l->pending--;
  }
}

static void free_if_over(struct listing *l) {
  struct intake *intake = l->intake;
  struct panel *panel = l->panel;
  if (l->session != NULL || l->pending > 0 || !l->asked) return;
  LIST_REMOVE(l, link);
  slab_put(intake->o.slab, l, size_of(l->lists));
  panel_put(intake, panel);
}

static void detach(struct listing *l) {
  timer_cancel(&l->intake->o.shard->wheel, &l->timer);
  stop_waiting(l);
  l->session->listing = NULL;
  l->session = NULL;
  free_if_over(l);
}

/* ---- the decision ---- */

static void decide(struct listing *l, bool refused) {
  struct session *s = l->session;
  bool held = l->holds;
  timer_cancel(&l->intake->o.shard->wheel, &l->timer);
  l->holds = false;
  l->refused = refused;
  if (refused) {
    count_add(l->intake->o.counters, COUNT_SESSIONS_LISTED, 1);
    stop_waiting(l);
  } else {
    detach(l);
  }
  if (!held) return;
  s->waiting = false;
  session_go_on(s);
}

/* Once it is sure, whatever the others will say. */
static void decide_if_sure(struct listing *l) {
  if (!l->asked || l->session == NULL || l->refused) return;
  if (l->weight + l->less >= l->lists->threshold) {
    decide(l, true);
  } else if (l->weight + l->more < l->lists->threshold) {
    decide(l, false);
  }
}

static void timed_out(void *context, struct timer *timer) {
  (void)context;
  struct listing *l = (struct listing *)((uint8_t *)timer - offsetof(struct listing, timer));
  count_add(l->intake->o.counters, COUNT_DNS_LIST_UNANSWERED, l->pending);
  decide(l, l->weight >= l->lists->threshold);
}

/* ---- answers ---- */

static void tell_out_of_order(struct dns_list *list, const struct netaddr *answer) {
  char text[48];
  struct fmt out = fmt_over(text, sizeof text);
  if (atomic_exchange(&list->said, true)) return;
  netaddr_format(answer, &out);
  fprintf(stderr,
          "ringpost: DNS list %s answers %.*s, which stands for no listing: it is out of order, or does not answer the resolver; such answers are "
          "ignored\n",
          list->name, (int)out.len, text);
}

static bool is_decided(const struct listing *l) { return l->session == NULL || l->refused; }

static void take(struct listing *l, unsigned index, enum list_verdict verdict, const struct netaddr *answer) {
  struct dns_list *list = &l->lists->list[index];
  *(list->weight > 0 ? &l->more : &l->less) -= list->weight;
  if (verdict == LIST_OUT_OF_ORDER) tell_out_of_order(list, answer);
  if (verdict == LIST_PRESENT) {
    count_add(l->intake->o.counters, COUNT_DNS_LIST_LISTED, 1);
    l->weight += list->weight;
    if (l->refused || (l->heaviest > 0 && l->lists->list[l->heaviest - 1].weight >= list->weight)) return; /* what was said once is said again */
    l->heaviest = index + 1;
    l->answer = *answer;
  } else if (verdict != LIST_ABSENT && !is_decided(l)) {
    count_add(l->intake->o.counters, COUNT_DNS_LIST_UNANSWERED, 1);
  }
}

static void move_on(struct lane *lane);

static void answered(struct record_query *query, const struct dns_answer *answer) {
  struct question *question = query->context;
  struct listing *l = question->listing;
  struct intake *intake = l->intake;
  struct panel *panel = l->panel;
  unsigned index = (unsigned)(question - l->question);
  const struct dns_list *list = &l->lists->list[index];
  struct netaddr which = {0};
  enum list_verdict verdict = list_verdict(answer, list->answers, list->answers_count, &which);
  panel->holders++; /* the listing may be over, and was maybe the last */
  panel->lane[index].under_way--;
  l->pending--;
  take(l, index, verdict, &which);
  if (l->session == NULL) {
    free_if_over(l);
  } else {
    decide_if_sure(l);
  }
  move_on(&panel->lane[index]);
  panel_put(intake, panel);
}

/* ---- questions ---- */

/* Maybe answered before this returns. */
static void ask(struct question *question) {
  struct listing *l = question->listing;
  struct dns_name name;
  lane_of(question)->under_way++;
  count_add(l->intake->o.counters, COUNT_DNS_LIST_QUESTIONS, 1);
  list_question(&name, &l->session->peer, span_of_text(l->lists->list[question - l->question].zone));
  resolver_records(l->intake->o.resolver, DNS_A, dns_name_span(&name), &question->query);
}

/* Asks what waits, as far as there is room. What is answered at once calls this too: then the loop that runs already goes on. */
static void move_on(struct lane *lane) {
  if (lane->moving) return;
  lane->moving = true;
  while (lane->under_way < UNDER_WAY_MAX && !TAILQ_EMPTY(&lane->waiting)) {
    struct question *question = TAILQ_FIRST(&lane->waiting);
    TAILQ_REMOVE(&lane->waiting, question, link);
    question->waits = false;
    ask(question);
  }
  lane->moving = false;
}

static void begin(struct session *s, struct dns_lists *lists) {
  struct intake *intake = s->intake;
  struct panel *panel = panel_get(intake, lists);
  struct listing *l = panel == NULL ? NULL : slab_get(intake->o.slab, size_of(lists));
  if (l == NULL) {
    if (panel != NULL) panel_put(intake, panel);
    count_add(intake->o.counters, COUNT_DNS_LIST_UNANSWERED, lists->count);
    return;
  }
  *l = (struct listing){.intake = intake, .session = s, .panel = panel, .lists = lists, .pending = lists->count, .timer = {.fire = timed_out}};
  LIST_INSERT_HEAD(&intake->listings, l, link);
  s->listing = l;
  for (unsigned i = 0; i < lists->count; i++) {
    struct question *question = &l->question[i];
    *(lists->list[i].weight > 0 ? &l->more : &l->less) += lists->list[i].weight;
    *question = (struct question){.query = {.done = answered, .context = question}, .listing = l, .waits = true};
    TAILQ_INSERT_TAIL(&panel->lane[i].waiting, question, link);
  }
  for (unsigned i = 0; i < lists->count; i++) move_on(&panel->lane[i]);
  l->asked = true;
  timer_set(&intake->o.shard->wheel, &l->timer, intake->o.shard->now_ms + lists->timeout_ms);
  decide_if_sure(l);
}

void listing_begin(struct session *s) {
  struct dns_lists *lists = s->dns_lists;
  s->dns_lists = NULL;
  if (lists != NULL && !access_is_trusted(s->intake->o.conf, &s->peer) && list_knows(&s->peer)) begin(s, lists);
  dns_lists_put(lists);
}

/* ---- what comes of it ---- */

/* Who has said who he is may be anywhere. */
static bool is_known(const struct session *s) { return s->user.len > 0 || s->certified; }

void listing_wait(struct session *s) {
  struct listing *l = s->listing;
  if (l == NULL || l->refused || is_known(s)) return;
  l->holds = true;
  s->waiting = true;
  timer_cancel(&s->intake->o.shard->wheel, &s->timer); /* the peer owes nothing */
}

bool listing_refuses(struct session *s, struct fmt *out) {
  const struct listing *l = s->listing;
  char room[DNS_LIST_SAYING_MAX + 1];
  struct fmt text = fmt_over(room, sizeof room - 1);
  if (l == NULL || !l->refused || is_known(s)) return false;
  const struct dns_list *list = &l->lists->list[l->heaviest - 1];
  dns_list_say(list, &s->peer, &text);
  room[text.len] = '\0';
  count_add(s->intake->o.counters, COUNT_DNS_LIST_REFUSED, 1);
  refusal_recipient(s, room, &(struct refusal_list){span_of_text(list->name), l->answer}, out);
  return true;
}

void listing_forget(struct session *s) {
  dns_lists_put(s->dns_lists);
  s->dns_lists = NULL;
  if (s->listing != NULL) detach(s->listing);
}

void listings_close(struct intake *intake) {
  for (struct listing *l; (l = LIST_FIRST(&intake->listings)) != NULL;) {
    must(l->session == NULL && l->pending > 0);
    for (unsigned i = 0; i < l->lists->count; i++) resolver_records_cancel(intake->o.resolver, &l->question[i].query);
    l->pending = 0;
    free_if_over(l);
  }
}
