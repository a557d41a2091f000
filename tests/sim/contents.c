#include "tests/sim/contents.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/must.h"
#include "tests/sim/world.h"

#define PAGE 4096
#define SECTOR 512
#define PAGE_SECTORS (PAGE / SECTOR)
#define WRITE_BACK_NS (30 * SECOND_NS)
#define LOST UINT64_MAX

struct page {
  uint8_t now[PAGE], safe[PAGE];
  uint64_t dirty[PAGE_SECTORS]; /* 0: now and safe are the same; the number of the write; LOST */
  uint64_t dirty_ns;            /* when the first of them was */
};

static uint64_t writes;

void contents_open(void) { writes = 0; }
uint64_t contents_writes(void) { return writes; }

static void reserve_pages(struct contents *contents, uint64_t size) {
  uint64_t count = (size + PAGE - 1) / PAGE;
  if (count <= contents->pages_count) return;
  count += count / 2;
  contents->pages = realloc(contents->pages, count * sizeof(struct page *));
  must(contents->pages != NULL);
  memset(contents->pages + contents->pages_count, 0, (count - contents->pages_count) * sizeof(struct page *));
  contents->pages_count = count;
}

static bool all_zero(const uint8_t *bytes, size_t len) { return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0); }

/* Within one sector. */
static void put(struct contents *contents, uint64_t offset, const uint8_t *bytes, size_t len) {
  reserve_pages(contents, offset + len);
  struct page **at = &contents->pages[offset / PAGE];
  if (*at == NULL && !all_zero(bytes, len)) *at = sim_alloc(sizeof **at);
  if (*at != NULL) {
    memcpy((*at)->now + offset % PAGE, bytes, len);
    if (all_zero((const uint8_t *)(*at)->dirty, sizeof(*at)->dirty)) (*at)->dirty_ns = world_now_ns();
    (*at)->dirty[offset % PAGE / SECTOR] = writes;
  }
  if (offset + len > contents->size) contents->size = offset + len;
}

void contents_write(struct contents *contents, uint64_t offset, struct span bytes, unsigned lost, unsigned of) {
  writes++;
  while (bytes.len > 0) {
    size_t piece = SECTOR - offset % SECTOR < bytes.len ? SECTOR - offset % SECTOR : bytes.len;
    if (lost == 0 || chance(of) >= lost) put(contents, offset, bytes.at, piece);
    offset += piece;
    bytes = span_skip(bytes, piece);
  }
}

void contents_read(const struct contents *contents, uint64_t offset, uint8_t *room, size_t len) {
  while (len > 0) {
    size_t piece = PAGE - offset % PAGE < len ? PAGE - offset % PAGE : len;
    const struct page *page = offset / PAGE < contents->pages_count ? contents->pages[offset / PAGE] : NULL;
    if (page != NULL) {
      memcpy(room, page->now + offset % PAGE, piece);
    } else {
      memset(room, 0, piece);
    }
    offset += piece;
    room += piece;
    len -= piece;
  }
}

static void save_sector(struct page *page, unsigned sector) {
  memcpy(page->safe + (size_t)sector * SECTOR, page->now + (size_t)sector * SECTOR, SECTOR);
  page->dirty[sector] = 0;
}

static void revert_sector(struct page *page, unsigned sector) {
  memcpy(page->now + (size_t)sector * SECTOR, page->safe + (size_t)sector * SECTOR, SECTOR);
  page->dirty[sector] = 0;
}

/* The dirty sectors of this range. */
static void each_dirty(struct contents *contents, uint64_t offset, uint64_t len, uint64_t until, void (*each)(struct page *page, unsigned sector)) {
  for (uint64_t at = offset / SECTOR; at < (offset + len + SECTOR - 1) / SECTOR && at / PAGE_SECTORS < contents->pages_count; at++) {
    struct page *page = contents->pages[at / PAGE_SECTORS];
    unsigned sector = (unsigned)(at % PAGE_SECTORS);
    if (page != NULL && page->dirty[sector] != 0 && page->dirty[sector] != LOST && page->dirty[sector] <= until) each(page, sector);
  }
}

void contents_save(struct contents *contents, uint64_t offset, uint64_t len, uint64_t until) {
  each_dirty(contents, offset, len, until, save_sector);
  contents->safe_size = contents->size;
}

static void save_perhaps(struct page *page, unsigned sector) {
  if (chance_once(2)) save_sector(page, sector);
}

static void save_or_lose(struct page *page, unsigned sector) {
  uint64_t which = chance(3);
  if (which == 0) save_sector(page, sector);
  if (which == 1) page->dirty[sector] = LOST;
}

void contents_save_failed(struct contents *contents, uint64_t offset, uint64_t len, uint64_t until, bool cached) {
  each_dirty(contents, offset, len, until, cached ? save_or_lose : save_perhaps);
}

static void evict_page(struct page *page) {
  for (unsigned i = 0; i < PAGE_SECTORS; i++)
    if (page->dirty[i] == LOST) revert_sector(page, i);
}

void contents_evict(struct contents *contents) {
  for (uint64_t i = 0; i < contents->pages_count; i++)
    if (contents->pages[i] != NULL) evict_page(contents->pages[i]);
}

static void cut_page(struct page *page, unsigned share) {
  bool old = world_now_ns() - page->dirty_ns > WRITE_BACK_NS;
  evict_page(page);
  for (unsigned i = 0; i < PAGE_SECTORS; i++) {
    if (page->dirty[i] == 0) continue;
    if (!old && chance(4) >= share) {
      revert_sector(page, i);
    } else {
      save_sector(page, i);
    }
  }
}

void contents_cut_power(struct contents *contents) {
  unsigned share = (unsigned)chance(5); /* none, some, all of what is dirty */
  for (uint64_t i = 0; i < contents->pages_count; i++)
    if (contents->pages[i] != NULL) cut_page(contents->pages[i], share);
  if (share < 4 && chance_once(2)) contents->size = contents->safe_size;
  contents->safe_size = contents->size;
}

void contents_free(struct contents *contents) {
  for (uint64_t i = 0; i < contents->pages_count; i++) free(contents->pages[i]);
  free(contents->pages);
  *contents = (struct contents){0};
}
