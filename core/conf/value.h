/*
 * value: readers of single values and plain lists of the configuration that are no numbers: words, paths, addresses, networks. Main thread.
 *
 * `path` is the key's, for what is reported. All give E_OK, E_SYNTAX or E_RANGE (reported), or E_NO_MEMORY.
 */
#ifndef CORE_CONF_VALUE_H
#define CORE_CONF_VALUE_H

#include "core/conf/setting.h"

must_check int value_copy(char **to, const char *text);
/* NULL text: nothing is done. */
must_check int value_path(char **to, const char *text, const char *path, const struct reading *reading);
/* Port 0. */
must_check int value_address(struct netaddr *address, const char *text, const char *path, const struct reading *reading);
must_check int value_address_with_port(struct netaddr *address, const char *text, uint16_t default_port, const char *path,
                                       const struct reading *reading);
/* One of the words; its number in *choice. */
must_check int value_choice(unsigned *choice, const char *text, const char *const *words, unsigned count, const char *path,
                            const struct reading *reading);
/* Of TLS on the way out; `implicit`: that word too. NULL text: nothing is done. */
must_check int value_security(enum conf_security *security, const char *text, bool implicit, const char *path, const struct reading *reading);
/* Into new memory, which is the caller's whatever is returned. Of networks: no texts, no list. */
must_check int value_addresses(struct netaddr **list, unsigned *list_count, char *const *texts, unsigned count, uint16_t port, const char *base,
                               const struct reading *reading);
must_check int value_networks(struct network **list, unsigned *list_count, char *const *texts, unsigned count, const char *base,
                              const struct reading *reading);

#endif
