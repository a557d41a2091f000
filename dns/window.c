#include "dns/window.h"

#define LOST_SHARE 8         /* one of so many may be lost: names that take longer than the timeout look the same */
#define GAIN_SHARE 8         /* growing by a half has to bring so much of the rate, one part of eight, or it was for nothing */
#define GROW_AGAIN_MS 30000u /* after it went back: what was too much a moment ago still is */

void window_init(struct window *window, uint32_t period_ms, uint64_t now_ms) {
  *window = (struct window){.size = WINDOW_FIRST, ._period_ms = period_ms, ._begun_ms = now_ms};
}

static unsigned within(unsigned size) { return size < WINDOW_MIN ? WINDOW_MIN : size > WINDOW_MAX ? WINDOW_MAX : size; }

static void go_back(struct window *window, unsigned size, uint64_t now_ms) {
  window->size = within(size);
  window->_before = 0;
  window->_grow_ms = now_ms + GROW_AGAIN_MS;
}

static void judge(struct window *window, bool more, uint64_t now_ms) {
  uint64_t per_s = window->_answered * 1000ull / (now_ms - window->_begun_ms);
  unsigned before = window->_before;
  if (window->_lost > window->_answered / LOST_SHARE) {
    go_back(window, before != 0 ? before : window->size / 2, now_ms);
  } else if (before != 0 && per_s < window->_per_s + window->_per_s / GAIN_SHARE) {
    go_back(window, before, now_ms);
  } else if (more && now_ms >= window->_grow_ms && window->size < WINDOW_MAX) {
    window->_before = window->size;
    window->size = within(window->size + window->size / 2);
    window->_per_s = per_s;
  } else {
    window->_before = 0;
  }
}

static void judge_in_time(struct window *window, bool more, uint64_t now_ms) {
  if (window->_answered + window->_lost < window->size || now_ms <= window->_begun_ms || now_ms - window->_begun_ms < window->_period_ms) return;
  judge(window, more, now_ms);
  window->_answered = window->_lost = 0;
  window->_begun_ms = now_ms;
}

void window_answered(struct window *window, bool more, uint64_t now_ms) {
  window->_answered++;
  judge_in_time(window, more, now_ms);
}

void window_lost(struct window *window, bool more, uint64_t now_ms) {
  window->_lost++;
  judge_in_time(window, more, now_ms);
}
