/*
 * listeners: how mail comes in: the ports with their TLS and AUTH, certificates, users, and who may relay without them. Steps of reading, for conf.c. Main thread.
 */
#ifndef CORE_CONF_LISTENERS_H
#define CORE_CONF_LISTENERS_H

#include "core/conf/conf.h"
#include "core/conf/raw.h"
#include "core/conf/setting.h"

/* Checks and takes over what is given, with the defaults of each listener. E_SYNTAX, E_RANGE (reported) or E_NO_MEMORY. */
must_check int listeners_read(struct conf *conf, const struct raw *raw, const struct reading *reading);
/* relay_from and clients.except, where they are missing. E_NO_MEMORY. */
must_check int listeners_default(struct conf *conf);
void listeners_free(struct conf *conf);

#endif
