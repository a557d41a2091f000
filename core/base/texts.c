#include "core/base/texts.h"

#include <stddef.h>
#include <stdlib.h>

#include "core/base/error.h"

struct text {
  uint32_t keepers, len;
  char bytes[];
};

static struct text *text_of(const char *bytes) { return (struct text *)(uintptr_t)(bytes - offsetof(struct text, bytes)); }

static struct span text_key(const void *object) {
  const struct text *text = object;
  return span_of(text->bytes, text->len);
}

void texts_init(struct texts *texts, uint64_t seed) { map_init(&texts->_map, text_key, seed); }

void texts_fini(struct texts *texts) {
  must(texts->_map.count == 0);
  map_fini(&texts->_map);
}

const char *texts_get(struct texts *texts, const char *bytes) {
  size_t len = strlen(bytes);
  struct text *text = map_find(&texts->_map, span_of(bytes, len));
  if (text == NULL) {
    text = malloc(sizeof *text + len + 1);
    if (text == NULL) return NULL;
    *text = (struct text){.len = (uint32_t)len};
    memcpy(text->bytes, bytes, len + 1);
    if (map_insert(&texts->_map, text) != E_OK) {
      free(text);
      return NULL;
    }
  }
  text->keepers++;
  return text->bytes;
}

void texts_put(struct texts *texts, const char *bytes) {
  if (bytes == NULL) return;
  struct text *text = text_of(bytes);
  must(text->keepers > 0);
  if (--text->keepers > 0) return;
  map_remove(&texts->_map, text_key(text));
  free(text);
}

void texts_set(struct texts *texts, const char **kept, const char *bytes) {
  if (*kept != NULL && strcmp(*kept, bytes) == 0) return;
  texts_put(texts, *kept);
  *kept = texts_get(texts, bytes);
}
