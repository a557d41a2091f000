#include "net/auth/verify.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>

#include "core/base/error.h"
#include "core/base/spsc.h"
#include "core/shard/shard.h"
#include "net/auth/remembered.h"

struct request {
  struct errand errand; /* the answer's way back */
  struct verify_lane *lane;
  _Atomic bool busy; /* the shard sets it, the thread that is done with it resets it */
  bool real;         /* the hash is the user's own */
  bool right;
  uint64_t token;
  uint16_t password_len;
  uint8_t password[SECRET_PASSWORD_MAX];
  char hash[SECRET_HASH_MAX + 1]; /* empty: the keys */
  struct scram_keys keys;
  uint8_t digest[SECRET_DIGEST];
};

struct verify_lane {
  struct verify *verify;
  struct shard *shard;
  verify_answered answered;
  void *context;
  struct spsc asked; /* of struct request * */
  struct request *requests;
  unsigned next; /* where the look for a free one begins */
  struct remembered *remembered;
};

struct verify {
  struct verify_options o;
  uint8_t key[SECRET_DIGEST];              /* of what is remembered */
  char someones_hash[SECRET_HASH_MAX + 1]; /* for those who are not there, while nobody is */
  struct verify_lane *lanes;
  pthread_t *threads;
  unsigned threads_count;
  sem_t work;
  pthread_mutex_t lock; /* of the threads: who takes from the lanes */
  unsigned next_lane;
  _Atomic bool stopping;
};

const struct verify_options verify_defaults = {.lanes = 1, .threads = 2, .requests = 64, .remembered = 4096, .remember_ms = 300000};

/* ---- the threads ---- */

static struct request *take(struct verify *verify) {
  struct request *request = NULL;
  pthread_mutex_lock(&verify->lock);
  for (unsigned i = 0; i < verify->o.lanes && request == NULL; i++) {
    struct verify_lane *lane = &verify->lanes[verify->next_lane];
    verify->next_lane = (verify->next_lane + 1) % verify->o.lanes;
    if (!spsc_pop(&lane->asked, &request)) request = NULL;
  }
  pthread_mutex_unlock(&verify->lock);
  return request;
}

/* On the shard. */
static bool deliver(struct errand *errand, void *context) {
  struct request *request = context;
  struct verify_lane *lane = request->lane;
  (void)errand;
  if (request->right) remembered_put(lane->remembered, request->digest, lane->shard->now_ms + lane->verify->o.remember_ms);
  lane->answered(lane->context, request->token, request->right);
  return true;
}

static void check(struct request *request, struct secret_room *room) {
  struct span password = span_of(request->password, request->password_len);
  bool matches = request->hash[0] != '\0' ? secret_hash_matches(room, request->hash, password) : scram_matches(&request->keys, password);
  request->right = matches && request->real;
  secret_wipe(request->password, sizeof request->password);
  secret_wipe(request->hash, sizeof request->hash);
  secret_wipe(&request->keys, sizeof request->keys);
}

static void *work(void *argument) {
  struct verify *verify = argument;
  struct secret_room *room = secret_room_open();
  must(room != NULL);
  for (;;) {
    while (sem_wait(&verify->work) != 0) continue; /* a signal came */
    if (atomic_load_explicit(&verify->stopping, memory_order_acquire)) break;
    struct request *request = take(verify);
    must(request != NULL);
    check(request, room);
    errand_init(&request->errand, deliver, request);
    errand_ask(request->lane->shard, &request->errand);
    (void)errand_await(&request->errand); /* false: the shard has ended, there is nobody to answer */
    atomic_store_explicit(&request->busy, false, memory_order_release);
  }
  secret_room_close(room);
  return NULL;
}

static int start_threads(struct verify *verify) {
  sigset_t all, before; /* signals are the main thread's */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failed = 0;
  while (failed == 0 && verify->threads_count < verify->o.threads) {
    failed = pthread_create(&verify->threads[verify->threads_count], NULL, work, verify);
    if (failed == 0) verify->threads_count++;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return failed == 0 ? E_OK : E_OTHER;
}

void verify_stop(struct verify *verify) {
  if (verify == NULL) return;
  atomic_store_explicit(&verify->stopping, true, memory_order_release);
  for (unsigned i = 0; i < verify->threads_count; i++) sem_post(&verify->work);
  for (unsigned i = 0; i < verify->threads_count; i++) pthread_join(verify->threads[i], NULL);
  verify->threads_count = 0;
}

/* ---- open and close ---- */

static int open_lane(struct verify *verify, struct verify_lane *lane) {
  uint32_t capacity = 1;
  while (capacity < verify->o.requests) capacity *= 2;
  lane->verify = verify;
  lane->requests = calloc(verify->o.requests, sizeof *lane->requests);
  lane->remembered = remembered_open(verify->o.remembered);
  if (lane->requests == NULL || lane->remembered == NULL) return E_NO_MEMORY;
  return spsc_init(&lane->asked, sizeof(struct request *), capacity);
}

int verify_open(struct verify **out, const struct verify_options *options) {
  struct verify *verify = calloc(1, sizeof *verify);
  if (verify == NULL) return E_NO_MEMORY;
  verify->o = *options;
  secret_random(verify->key, sizeof verify->key);
  sem_init(&verify->work, 0, 0);
  pthread_mutex_init(&verify->lock, NULL);
  verify->lanes = aligned_alloc(64, options->lanes * sizeof *verify->lanes);
  verify->threads = calloc(options->threads, sizeof *verify->threads);
  int error = verify->lanes == NULL || verify->threads == NULL ? E_NO_MEMORY : E_OK;
  if (verify->lanes != NULL) memset(verify->lanes, 0, options->lanes * sizeof *verify->lanes);
  for (unsigned i = 0; error == E_OK && i < options->lanes; i++) error = open_lane(verify, &verify->lanes[i]);
  if (error == E_OK) error = secret_hash(SPAN("nobody's"), NULL, verify->someones_hash);
  if (error == E_OK) error = start_threads(verify);
  if (error != E_OK) {
    verify_stop(verify);
    verify_free(verify);
    return error;
  }
  *out = verify;
  return E_OK;
}

void verify_free(struct verify *verify) {
  if (verify == NULL) return;
  for (unsigned i = 0; verify->lanes != NULL && i < verify->o.lanes; i++) {
    struct verify_lane *lane = &verify->lanes[i];
    if (lane->requests != NULL) secret_wipe(lane->requests, verify->o.requests * sizeof *lane->requests);
    free(lane->requests);
    remembered_close(lane->remembered);
    spsc_fini(&lane->asked);
  }
  pthread_mutex_destroy(&verify->lock);
  sem_destroy(&verify->work);
  free(verify->lanes);
  free(verify->threads);
  secret_wipe(verify, sizeof *verify);
  free(verify);
}

struct verify_lane *verify_lane(struct verify *verify, unsigned index, struct shard *shard, verify_answered answered, void *context) {
  must(index < verify->o.lanes);
  struct verify_lane *lane = &verify->lanes[index];
  lane->shard = shard;
  lane->answered = answered;
  lane->context = context;
  return lane;
}

/* ---- on the shard ---- */

static struct request *free_request(struct verify_lane *lane) {
  for (unsigned i = 0; i < lane->verify->o.requests; i++) {
    struct request *request = &lane->requests[lane->next];
    lane->next = (lane->next + 1) % lane->verify->o.requests;
    if (!atomic_load_explicit(&request->busy, memory_order_acquire)) return request;
  }
  return NULL;
}

/* Of what has to be the same for an answer to hold. */
static void digest_of(const struct verify *verify, struct span name, struct span password, const struct user *user, uint8_t digest[SECRET_DIGEST]) {
  uint8_t room[SECRET_NAME_MAX + SECRET_PASSWORD_MAX + SECRET_HASH_MAX + SECRET_DIGEST + 3];
  struct fmt text = fmt_over(room, sizeof room);
  fmt_put(&text, name);
  fmt_char(&text, '\0');
  fmt_put(&text, password);
  fmt_char(&text, '\0');
  if (user != NULL) {
    fmt_text(&text, user->hash);
    fmt_char(&text, '\0');
    fmt_bytes(&text, user->scram.stored, sizeof user->scram.stored);
  }
  must(!text.overflow);
  secret_hmac(span_of(verify->key, sizeof verify->key), fmt_span(&text), digest);
  secret_wipe(room, sizeof room);
}

static bool has_password(const struct user *user) { return user->hash[0] != '\0' || user->scram.iterations > 0; }

/* Whose hash stands in for that of somebody who is not there: NULL: none has one. */
static const struct user *stand_in(const struct users *users, const uint8_t digest[SECRET_DIGEST]) {
  uint32_t chance;
  if (users == NULL || users_count(users) == 0) return NULL;
  memcpy(&chance, digest, sizeof chance);
  const struct user *user = users_at(users, chance % users_count(users));
  return has_password(user) ? user : NULL;
}

static void fill(struct request *request, const struct user *user, struct span password) {
  const char *hash = user == NULL ? request->lane->verify->someones_hash : user->hash;
  memcpy(request->hash, hash, strlen(hash) + 1);
  if (user != NULL) request->keys = user->scram;
  memcpy(request->password, password.at, password.len);
  request->password_len = (uint16_t)password.len;
}

enum verify_answer verify_ask(struct verify_lane *lane, const struct users *users, struct span name, struct span password, uint64_t token) {
  uint8_t digest[SECRET_DIGEST], name_digest[SECRET_DIGEST];
  must(name.len <= SECRET_NAME_MAX && password.len > 0 && password.len <= SECRET_PASSWORD_MAX);
  const struct user *user = users == NULL ? NULL : users_find(users, name);
  bool real = user != NULL && !user->disabled && has_password(user);
  digest_of(lane->verify, name, password, user, digest);
  if (real && remembered_has(lane->remembered, digest, lane->shard->now_ms)) return VERIFY_RIGHT;
  struct request *request = free_request(lane);
  if (request == NULL) return VERIFY_BUSY;
  secret_hmac(span_of(lane->verify->key, sizeof lane->verify->key), name, name_digest);
  request->lane = lane;
  request->token = token;
  request->real = real;
  memcpy(request->digest, digest, sizeof digest);
  fill(request, real ? user : stand_in(users, name_digest), password);
  atomic_store_explicit(&request->busy, true, memory_order_relaxed); /* the ring publishes it */
  bool pushed = spsc_push(&lane->asked, &request);
  must(pushed); /* it has room for all requests */
  sem_post(&lane->verify->work);
  return VERIFY_WAIT;
}
