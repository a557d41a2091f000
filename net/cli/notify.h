/*
 * notify: tells the service manager what state we are in (systemd's sd_notify protocol: a datagram to $NOTIFY_SOCKET), without a library for it.
 */
#ifndef NET_CLI_NOTIFY_H
#define NET_CLI_NOTIFY_H

/* `state` such as "READY=1". Does nothing without a service manager; never fails. */
void notify_service_manager(const char *state);

#endif
