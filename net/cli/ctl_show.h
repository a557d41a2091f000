/*
 * ctl_show: answers of the API as text for people. Each takes the whole answer and writes to standard output; what is missing is left out.
 */
#ifndef NET_CLI_CTL_SHOW_H
#define NET_CLI_CTL_SHOW_H

#include <jansson.h>

void show_status(const json_t *json);
void show_queue(const json_t *json);
void show_sites(const json_t *json);
void show_domain_queue(const json_t *json);
void show_message_text(const json_t *json);
void show_suspensions(const json_t *json);
/* To standard error. */
void show_error_text(const char *text);
/* How many were retried, bounced, ... */
void show_done(const json_t *json);

#endif
