/*
 * conf_sound: does a configuration that was accepted keep what conf.h promises?
 */
#ifndef TESTS_LIB_CONF_SOUND_H
#define TESTS_LIB_CONF_SOUND_H

#include "core/conf/conf.h"

/* NULL, or a phrase that names what is wrong. */
const char *conf_unsound(const struct conf *conf);

#endif
